/* The scenario: what the stand-in driver's hardware is and how it fails. */

#include <stdint.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9
};
enum {
    MAX_GPUS = 32,
    MAX_SLOTS = 8,
    MAX_PROCESSES = 512,
    MAX_RULES = 128,
    MAX_GENERATIONS = 8,
    MAX_TEXT = 96
};
enum { WHOLE_GPU = -1, NO_GPU = -1, ANY = -2 };
#define NOT_AVAILABLE (~0ull)

typedef int nvmlReturn_t;

struct process {
    char list;
    uint32_t pid;
    uint64_t used;
    uint32_t gi, ci;
};
struct unit {
    int present;
    char name[MAX_TEXT], uuid[MAX_TEXT];
    uint64_t total, reserved, used;
    uint32_t gi, ci;
};
struct gpu {
    struct unit whole, slots[MAX_SLOTS];
    uint32_t gpu_percent, memory_percent, temperature_c, power_mw, limit_mw, sm_mhz, memory_mhz;
    uint32_t mig_enabled, mig_slots, generation;
    int process_count;
    struct process processes[MAX_PROCESSES];
};
struct rule {
    char call[MAX_TEXT];
    int gpu, slot, value;
};
struct scenario {
    char driver[MAX_TEXT];
    int cuda, epoch, frozen_count, process_bytes, gpu_count, error_count, delay_count;
    struct rule errors[MAX_RULES], delays[MAX_RULES];
    struct gpu gpus[MAX_GPUS];
};

extern struct scenario now;

/* Read the scenario again if it was replaced. */
void refresh(void);

/* The value of the first rule for this call, 0 if there is none. */
int rule_value(const struct rule *rules, int count, const char *call, int gpu, int slot);
