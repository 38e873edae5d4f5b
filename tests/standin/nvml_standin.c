/* A stand-in for NVIDIA's libnvidia-ml.so.1: answers from a scenario file, needs no GPU.
 *
 * Written from the public NVML API documentation; struct layouts follow it for 64-bit Linux.
 * The scenario (path in $NVML_STANDIN_SCENARIO) is looked at on every call and read again when it
 * was replaced, so a test changes the "hardware" while the program under test runs.
 * Its lines are fields separated by tabs; standin.py writes them and documents what they mean.
 */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9
};
enum { MAX_GPUS = 32, MAX_SLOTS = 8, MAX_PROCESSES = 512, MAX_RULES = 128, MAX_GENERATIONS = 8, MAX_TEXT = 96 };
enum { WHOLE_GPU = -1, NO_GPU = -1, ANY = -2 };
static const uint64_t NOT_AVAILABLE = ~0ull;

typedef int nvmlReturn_t;
typedef const struct handle { int gpu, slot, generation; } *nvmlDevice_t;

struct process { char list; uint32_t pid; uint64_t used; uint32_t gi, ci; };
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
struct rule { char call[MAX_TEXT]; int gpu, slot, value; };
struct scenario {
    char driver[MAX_TEXT];
    int cuda, epoch, frozen_count, process_bytes, gpu_count, error_count, delay_count;
    struct rule errors[MAX_RULES], delays[MAX_RULES];
    struct gpu gpus[MAX_GPUS];
};

static struct scenario now;
static struct timespec read_at;
static ino_t read_inode;
static struct handle handles[MAX_GPUS][MAX_SLOTS + 1][MAX_GENERATIONS];
static int inits, init_epoch, init_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the scenario ------------------------------------------------------------------------- */

static void copy(char *to, const char *from) { snprintf(to, MAX_TEXT, "%s", from); }

/* `*`, `GPU`, `GPU.SLOT`, or `GPU.-1` for the GPU without its instances. */
static void read_rule(struct rule *rule, char **f) {
    const char *slot = strchr(f[1], '.');
    copy(rule->call, f[0]);
    rule->gpu = strcmp(f[1], "*") ? atoi(f[1]) : ANY;
    rule->slot = slot ? atoi(slot + 1) : ANY;
    rule->value = atoi(f[2]);
}

static uint64_t big(const char *text) { return strcmp(text, "N/A") ? strtoull(text, NULL, 10) : NOT_AVAILABLE; }

static uint32_t small(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

static void read_unit(struct unit *unit, char **f) {
    unit->present = 1;
    copy(unit->name, f[0]);
    copy(unit->uuid, f[1]);
    unit->total = big(f[2]), unit->reserved = big(f[3]), unit->used = big(f[4]);
    unit->gi = small(f[5]), unit->ci = small(f[6]);
}

static void read_line(char *line) {
    char *f[24] = {0};
    int n = 0;
    for (char *field; n < 24 && (field = strsep(&line, "\t\n"));) f[n++] = field;
    for (int i = n; i < 24; i++) f[i] = "";
    if (!strcmp(f[0], "driver")) copy(now.driver, f[1]);
    else if (!strcmp(f[0], "cuda")) now.cuda = atoi(f[1]);
    else if (!strcmp(f[0], "epoch")) now.epoch = atoi(f[1]);
    else if (!strcmp(f[0], "frozen_count")) now.frozen_count = atoi(f[1]);
    else if (!strcmp(f[0], "process_bytes")) now.process_bytes = atoi(f[1]);
    else if (!strcmp(f[0], "error") && now.error_count < MAX_RULES) {
        read_rule(&now.errors[now.error_count++], f + 1);
    } else if (!strcmp(f[0], "delay") && now.delay_count < MAX_RULES) {
        read_rule(&now.delays[now.delay_count++], f + 1);
    } else if (!strcmp(f[0], "gpu")) {
        struct gpu *gpu = &now.gpus[now.gpu_count++];
        read_unit(&gpu->whole, f + 1);
        gpu->gpu_percent = small(f[8]), gpu->memory_percent = small(f[9]);
        gpu->temperature_c = small(f[10]), gpu->power_mw = small(f[11]), gpu->limit_mw = small(f[12]);
        gpu->sm_mhz = small(f[13]), gpu->memory_mhz = small(f[14]);
        gpu->mig_enabled = small(f[15]), gpu->mig_slots = small(f[16]);
        gpu->generation = small(f[17]) % MAX_GENERATIONS;
    } else if (!strcmp(f[0], "mig") && now.gpu_count) {
        read_unit(&now.gpus[now.gpu_count - 1].slots[atoi(f[1]) % MAX_SLOTS], f + 2);
    } else if (!strcmp(f[0], "process") && now.gpu_count) {
        struct gpu *gpu = &now.gpus[now.gpu_count - 1];
        if (gpu->process_count == MAX_PROCESSES) return;
        gpu->processes[gpu->process_count++] =
            (struct process){f[1][0], small(f[2]), big(f[3]), small(f[4]), small(f[5])};
    }
}

static void refresh(void) {
    const char *path = getenv("NVML_STANDIN_SCENARIO");
    struct stat status;
    if (!path || stat(path, &status)) return;
    if (status.st_ino == read_inode && status.st_mtim.tv_sec == read_at.tv_sec &&
        status.st_mtim.tv_nsec == read_at.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    memset(&now, 0, sizeof now);
    char line[1024];
    while (fgets(line, sizeof line, file)) read_line(line);
    fclose(file);
    read_inode = status.st_ino, read_at = status.st_mtim;
}

static int rule_value(const struct rule *rules, int count, const char *call, int gpu, int slot) {
    for (int i = 0; i < count; i++) {
        int about = (rules[i].gpu == ANY || rules[i].gpu == gpu) && (rules[i].slot == ANY || rules[i].slot == slot);
        if (about && (!strcmp(rules[i].call, "*") || !strcmp(rules[i].call, call))) return rules[i].value;
    }
    return 0;
}

/* What every call does first: read the scenario, be slow, fail as told. */
static nvmlReturn_t enter(const char *call, int gpu, int slot, int needs_init) {
    pthread_mutex_lock(&lock);
    refresh();
    int delay_us = rule_value(now.delays, now.delay_count, call, gpu, slot);
    nvmlReturn_t error = rule_value(now.errors, now.error_count, call, gpu, slot);
    if (!error && needs_init && (!inits || init_epoch != now.epoch)) error = UNINITIALIZED;
    pthread_mutex_unlock(&lock);
    if (delay_us) usleep((useconds_t)delay_us);
    return error;
}

static int visible_gpus(void) { return now.frozen_count ? init_count : now.gpu_count; }

static nvmlReturn_t enter_device(const char *call, nvmlDevice_t device) {
    if (!device) return INVALID_ARGUMENT;
    nvmlReturn_t error = enter(call, device->gpu, device->slot, 1);
    if (error) return error;
    if (device->gpu >= now.gpu_count) return INVALID_ARGUMENT;
    if (device->generation != (int)now.gpus[device->gpu].generation) return INVALID_ARGUMENT;
    return device->slot != WHOLE_GPU && !now.gpus[device->gpu].slots[device->slot].present ? INVALID_ARGUMENT : SUCCESS;
}

static struct unit *unit_of(nvmlDevice_t device) {
    struct gpu *gpu = &now.gpus[device->gpu];
    return device->slot == WHOLE_GPU ? &gpu->whole : &gpu->slots[device->slot];
}

static nvmlDevice_t handle_of(int gpu, int slot) {
    int generation = (int)now.gpus[gpu].generation;
    struct handle *handle = &handles[gpu][slot + 1][generation];
    *handle = (struct handle){gpu, slot, generation};
    return handle;
}

static nvmlReturn_t give_text(char *to, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

#define SYSTEM() do { nvmlReturn_t e = enter(__func__, NO_GPU, ANY, 1); if (e) return e; } while (0)
#define DEVICE() do { nvmlReturn_t e = enter_device(__func__, device); if (e) return e; } while (0)
#define GPU() (now.gpus[device->gpu])
/* What only the whole GPU has: not a MIG instance. */
#define WHOLE() do { DEVICE(); if (device->slot != WHOLE_GPU) return NOT_SUPPORTED; } while (0)

/* ---- the library and the system ------------------------------------------------------------ */

static nvmlReturn_t initialise(const char *call) {
    nvmlReturn_t error = enter(call, NO_GPU, ANY, 0);
    if (error) return error;
    if (!inits++ || init_epoch != now.epoch) init_epoch = now.epoch, init_count = now.gpu_count;
    return SUCCESS;
}

API nvmlReturn_t nvmlInit(void) { return initialise("nvmlInit"); }
API nvmlReturn_t nvmlInit_v2(void) { return initialise("nvmlInit"); }
API nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; return initialise("nvmlInit"); }

API nvmlReturn_t nvmlShutdown(void) {
    nvmlReturn_t error = enter(__func__, NO_GPU, ANY, 0);
    if (error) return error;
    if (!inits) return UNINITIALIZED;
    inits--;
    return SUCCESS;
}

API const char *nvmlErrorString(nvmlReturn_t code) {
    static const char *const names[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions",
        "Already Initialized", "Not Found", "Insufficient Size", "Insufficient External Power",
        "Driver Not Loaded", "Timeout", "Interrupt Request Issue", "NVML Shared Library Not Found",
        "Function Not Found", "Corrupted infoROM", "GPU is lost", "GPU requires reset"};
    return code >= 0 && code < (int)(sizeof names / sizeof *names) ? names[code] : "Unknown Error";
}

API nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned size) {
    SYSTEM();
    return give_text(version, size, now.driver);
}
API nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned size) {
    SYSTEM();
    return give_text(version, size, now.driver);
}
API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    SYSTEM();
    *version = now.cuda;
    return SUCCESS;
}
API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    SYSTEM();
    *version = now.cuda;
    return SUCCESS;
}

/* ---- devices -------------------------------------------------------------------------------- */

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    SYSTEM();
    *count = (unsigned)visible_gpus();
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    nvmlReturn_t error = enter(__func__, (int)index, WHOLE_GPU, 1);
    if (error) return error;
    if ((int)index >= visible_gpus() || (int)index >= now.gpu_count) return INVALID_ARGUMENT;
    *device = handle_of((int)index, WHOLE_GPU);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}
API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    SYSTEM();
    for (int g = 0; g < visible_gpus(); g++)
        for (int s = WHOLE_GPU; s < MAX_SLOTS; s++) {
            struct unit *unit = s == WHOLE_GPU ? &now.gpus[g].whole : &now.gpus[g].slots[s];
            if (unit->present && !strcmp(unit->uuid, uuid)) return *device = handle_of(g, s), SUCCESS;
        }
    return NOT_FOUND;
}
API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    DEVICE();
    *index = (unsigned)(device->slot == WHOLE_GPU ? device->gpu : device->slot);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    WHOLE();
    *minor = (unsigned)device->gpu;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned size) {
    DEVICE();
    return give_text(name, size, unit_of(device)->name);
}
API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned size) {
    DEVICE();
    return give_text(uuid, size, unit_of(device)->uuid);
}

struct pci { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; };

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct pci *pci) {
    WHOLE();
    memset(pci, 0, sizeof *pci);
    pci->bus = (uint32_t)device->gpu + 1, pci->id = 0x233010de;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus & 0xff);
    return SUCCESS;
}

struct memory { uint64_t total, free, used; };
struct memory_v2 { uint32_t version; uint64_t total, reserved, free, used; };

API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct memory *memory) {
    DEVICE();
    struct unit *unit = unit_of(device);
    uint64_t taken = unit->used + unit->reserved; /* version 1 counts the reserve as used */
    *memory = (struct memory){unit->total, unit->total - taken, taken};
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory_v2 *memory) {
    DEVICE();
    if (memory->version != (sizeof *memory | 2u << 24)) return 25 /* ARGUMENT_VERSION_MISMATCH */;
    struct unit *unit = unit_of(device);
    memory->total = unit->total, memory->reserved = unit->reserved, memory->used = unit->used;
    memory->free = unit->total - unit->used - unit->reserved;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, struct memory *memory) {
    DEVICE(); /* nvidia-smi shows it for each MIG instance */
    *memory = (struct memory){1ull << 36, (1ull << 36) - (1ull << 20), 1ull << 20};
    return SUCCESS;
}

struct utilization { uint32_t gpu, memory; };

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *rates) {
    WHOLE();
    if (GPU().mig_enabled) return NOT_SUPPORTED;
    *rates = (struct utilization){GPU().gpu_percent, GPU().memory_percent};
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *period_us) {
    WHOLE();
    *percent = 0, *period_us = 167000;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *period_us) {
    WHOLE();
    *percent = 0, *period_us = 167000;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
    (void)sensor;
    WHOLE();
    *celsius = GPU().temperature_c;
    return SUCCESS;
}
struct temperature { uint32_t version; int sensor, celsius; };
API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct temperature *reading) {
    WHOLE();
    reading->celsius = (int)GPU().temperature_c;
    return SUCCESS;
}

static unsigned clock_mhz(struct gpu *gpu, int type) { return type == 2 ? gpu->memory_mhz : gpu->sm_mhz; }

API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned *mhz) {
    WHOLE();
    *mhz = clock_mhz(&GPU(), type);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int type, unsigned *mhz) {
    WHOLE();
    *mhz = clock_mhz(&GPU(), type);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    DEVICE();
    *major = 9, *minor = 0;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, int counter, unsigned *kb_per_s) {
    (void)counter;
    WHOLE();
    usleep(20000); /* a real driver samples for 20 ms */
    *kb_per_s = 0;
    return SUCCESS;
}

#define WHOLE_NUMBER(function, value) \
    API nvmlReturn_t function(nvmlDevice_t device, unsigned *out) { \
        WHOLE(); \
        *out = (unsigned)(value); \
        return SUCCESS; \
    }
WHOLE_NUMBER(nvmlDeviceGetPowerUsage, GPU().power_mw)
WHOLE_NUMBER(nvmlDeviceGetPowerManagementLimit, GPU().limit_mw)
WHOLE_NUMBER(nvmlDeviceGetEnforcedPowerLimit, GPU().limit_mw)
WHOLE_NUMBER(nvmlDeviceGetPersistenceMode, 1)
WHOLE_NUMBER(nvmlDeviceGetPerformanceState, 0)
WHOLE_NUMBER(nvmlDeviceGetComputeMode, 0)
WHOLE_NUMBER(nvmlDeviceGetDisplayActive, 0)
WHOLE_NUMBER(nvmlDeviceGetDisplayMode, 0)

/* Nothing that a monitor needs to see numbers for; symbols that every driver has all the same. */
#define UNSUPPORTED(function) \
    API nvmlReturn_t function(nvmlDevice_t device) { \
        DEVICE(); \
        return NOT_SUPPORTED; \
    }
UNSUPPORTED(nvmlDeviceGetFanSpeed)
UNSUPPORTED(nvmlDeviceGetFanSpeed_v2)
UNSUPPORTED(nvmlDeviceGetSerial)
UNSUPPORTED(nvmlDeviceGetTotalEccErrors)
UNSUPPORTED(nvmlDeviceGetDriverModel)
UNSUPPORTED(nvmlDeviceGetDriverModel_v2)
UNSUPPORTED(nvmlDeviceGetFieldValues)

/* ---- MIG -------------------------------------------------------------------------------------- */

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    WHOLE();
    if (!GPU().mig_slots) return NOT_SUPPORTED;
    *current = *pending = GPU().mig_enabled;
    return SUCCESS;
}
WHOLE_NUMBER(nvmlDeviceGetMaxMigDeviceCount, GPU().mig_slots)

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *instance) {
    WHOLE();
    if (index >= GPU().mig_slots || index >= MAX_SLOTS) return INVALID_ARGUMENT;
    if (!GPU().slots[index].present) return NOT_FOUND;
    *instance = handle_of(device->gpu, (int)index);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *parent) {
    DEVICE();
    *parent = handle_of(device->gpu, WHOLE_GPU);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_instance) {
    DEVICE();
    *is_instance = device->slot != WHOLE_GPU;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id) {
    DEVICE();
    if (device->slot == WHOLE_GPU) return NOT_SUPPORTED;
    *id = unit_of(device)->gi;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id) {
    DEVICE();
    if (device->slot == WHOLE_GPU) return NOT_SUPPORTED;
    *id = unit_of(device)->ci;
    return SUCCESS;
}

/* ---- processes ---------------------------------------------------------------------------------- */

struct process_info { uint32_t pid; uint64_t used; uint32_t gi, ci; uint64_t protected_bytes; };

static int listed(const struct process *process, char list, nvmlDevice_t device) {
    if (process->list != list) return 0;
    if (device->slot == WHOLE_GPU) return 1;
    const struct unit *unit = unit_of(device);
    return process->gi == unit->gi && process->ci == unit->ci;
}

/* `stride`: bytes of one entry in the caller's array, a prefix of struct process_info. */
static nvmlReturn_t list_processes(nvmlDevice_t device, char list, size_t stride, unsigned *count, void *array) {
    struct gpu *gpu = &GPU();
    unsigned needed = 0;
    for (int i = 0; i < gpu->process_count; i++) needed += (unsigned)listed(&gpu->processes[i], list, device);
    if (needed > *count || (needed && !array)) return *count = needed, INSUFFICIENT_SIZE;
    *count = needed;
    char *at = array;
    for (int i = 0; i < gpu->process_count; i++) {
        const struct process *process = &gpu->processes[i];
        if (!listed(process, list, device)) continue;
        struct process_info info = {process->pid, process->used, process->gi, process->ci, 0};
        memcpy(at, &info, stride);
        at += stride;
    }
    return SUCCESS;
}

#define PROCESS_LISTS(name, list) \
    API nvmlReturn_t name(nvmlDevice_t device, unsigned *count, void *array) { \
        DEVICE(); \
        return list_processes(device, list, 16, count, array); \
    } \
    API nvmlReturn_t name##_v2(nvmlDevice_t device, unsigned *count, void *array) { \
        DEVICE(); \
        return list_processes(device, list, 24, count, array); \
    } \
    API nvmlReturn_t name##_v3(nvmlDevice_t device, unsigned *count, void *array) { \
        DEVICE(); \
        return list_processes(device, list, (size_t)now.process_bytes, count, array); \
    }
PROCESS_LISTS(nvmlDeviceGetComputeRunningProcesses, 'C')
PROCESS_LISTS(nvmlDeviceGetGraphicsRunningProcesses, 'G')
PROCESS_LISTS(nvmlDeviceGetMPSComputeRunningProcesses, 'M')

struct process_utilization { uint32_t pid; uint64_t at_us; uint32_t sm, memory, encoder, decoder; };

API nvmlReturn_t nvmlDeviceGetProcessUtilization(
    nvmlDevice_t device, struct process_utilization *samples, unsigned *count, unsigned long long since_us) {
    WHOLE();
    struct gpu *gpu = &GPU();
    if (!gpu->process_count) return *count = 0, NOT_FOUND;
    if (!samples || *count < (unsigned)gpu->process_count)
        return *count = (unsigned)gpu->process_count, INSUFFICIENT_SIZE;
    *count = (unsigned)gpu->process_count;
    for (unsigned i = 0; i < *count; i++)
        samples[i] = (struct process_utilization){
            gpu->processes[i].pid, since_us + 1, gpu->gpu_percent / *count, gpu->memory_percent / *count, 0, 0};
    return SUCCESS;
}
