/* What every exported function begins with. */

#include "scenario.h"

#define API __attribute__((visibility("default")))

typedef const struct handle {
    int gpu, slot, generation;
} *nvmlDevice_t;

/* Read the scenario, be slow, fail as told. */
nvmlReturn_t enter(const char *call, int gpu, int slot, int needs_init);

/* The same for a call about a device; fails for a handle from before its reset too. */
nvmlReturn_t enter_device(const char *call, nvmlDevice_t device);

struct unit *unit_of(nvmlDevice_t device);

#define SYSTEM()                                                                                   \
    do {                                                                                           \
        nvmlReturn_t e = enter(__func__, NO_GPU, ANY, 1);                                          \
        if (e) return e;                                                                           \
    } while (0)
#define DEVICE()                                                                                   \
    do {                                                                                           \
        nvmlReturn_t e = enter_device(__func__, device);                                           \
        if (e) return e;                                                                           \
    } while (0)
#define GPU() (now.gpus[device->gpu])
/* What only the whole GPU has: not a MIG instance. */
#define WHOLE()                                                                                    \
    do {                                                                                           \
        DEVICE();                                                                                  \
        if (device->slot != WHOLE_GPU) return NOT_SUPPORTED;                                       \
    } while (0)
