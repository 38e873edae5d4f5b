/* A stand-in for NVIDIA's libnvidia-ml.so.1: answers from a scenario file, needs no GPU.
 *
 * Written from the public NVML API documentation; struct layouts follow it for 64-bit Linux.
 * The scenario (path in $NVML_STANDIN_SCENARIO) is looked at on every call and read again when it
 * was replaced, so a test changes the "hardware" while the program under test runs.
 */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

static struct handle handles[MAX_GPUS][MAX_SLOTS + 1][MAX_GENERATIONS];
static int inits, init_epoch, init_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

nvmlReturn_t enter(const char *call, int gpu, int slot, int needs_init) {
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

nvmlReturn_t enter_device(const char *call, nvmlDevice_t device) {
    if (!device) return INVALID_ARGUMENT;
    nvmlReturn_t error = enter(call, device->gpu, device->slot, 1);
    if (error) return error;
    if (device->gpu >= now.gpu_count) return INVALID_ARGUMENT;
    if (device->generation != (int)now.gpus[device->gpu].generation) return INVALID_ARGUMENT;
    return device->slot != WHOLE_GPU && !now.gpus[device->gpu].slots[device->slot].present
               ? INVALID_ARGUMENT
               : SUCCESS;
}

struct unit *unit_of(nvmlDevice_t device) {
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

/* ---- the library and the system ------------------------------------------------------------- */

static nvmlReturn_t initialise(const char *call) {
    nvmlReturn_t error = enter(call, NO_GPU, ANY, 0);
    if (error) return error;
    if (!inits++ || init_epoch != now.epoch) init_epoch = now.epoch, init_count = now.gpu_count;
    return SUCCESS;
}

API nvmlReturn_t nvmlInit(void) { return initialise("nvmlInit"); }
API nvmlReturn_t nvmlInit_v2(void) { return initialise("nvmlInit"); }
API nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return initialise("nvmlInit");
}

API nvmlReturn_t nvmlShutdown(void) {
    nvmlReturn_t error = enter(__func__, NO_GPU, ANY, 0);
    if (error) return error;
    if (!inits) return UNINITIALIZED;
    inits--;
    return SUCCESS;
}

API const char *nvmlErrorString(nvmlReturn_t code) {
    static const char *const names[] = {"Success",
                                        "Uninitialized",
                                        "Invalid Argument",
                                        "Not Supported",
                                        "Insufficient Permissions",
                                        "Already Initialized",
                                        "Not Found",
                                        "Insufficient Size",
                                        "Insufficient External Power",
                                        "Driver Not Loaded",
                                        "Timeout",
                                        "Interrupt Request Issue",
                                        "NVML Shared Library Not Found",
                                        "Function Not Found",
                                        "Corrupted infoROM",
                                        "GPU is lost",
                                        "GPU requires reset"};
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
            if (unit->present && !strcmp(unit->uuid, uuid))
                return *device = handle_of(g, s), SUCCESS;
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

struct pci {
    char legacy[16];
    uint32_t domain, bus, device, id, subsystem;
    char bus_id[32];
};

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct pci *pci) {
    WHOLE();
    memset(pci, 0, sizeof *pci);
    pci->bus = (uint32_t)device->gpu + 1, pci->id = 0x233010de;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus & 0xff);
    return SUCCESS;
}

struct memory {
    uint64_t total, free, used;
};
struct memory_v2 {
    uint32_t version;
    uint64_t total, reserved, free, used;
};

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

struct utilization {
    uint32_t gpu, memory;
};

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *rates) {
    WHOLE();
    if (GPU().mig_enabled) return NOT_SUPPORTED;
    *rates = (struct utilization){GPU().gpu_percent, GPU().memory_percent};
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *percent,
                                                 unsigned *period_us) {
    WHOLE();
    *percent = 0, *period_us = 167000;
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *percent,
                                                 unsigned *period_us) {
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
struct temperature {
    uint32_t version;
    int sensor, celsius;
};
API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct temperature *reading) {
    WHOLE();
    reading->celsius = (int)GPU().temperature_c;
    return SUCCESS;
}

static unsigned clock_mhz(struct gpu *gpu, int type) {
    return type == 2 ? gpu->memory_mhz : gpu->sm_mhz;
}

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

#define WHOLE_NUMBER(function, value)                                                              \
    API nvmlReturn_t function(nvmlDevice_t device, unsigned *out) {                                \
        WHOLE();                                                                                   \
        *out = (unsigned)(value);                                                                  \
        return SUCCESS;                                                                            \
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
#define UNSUPPORTED(function)                                                                      \
    API nvmlReturn_t function(nvmlDevice_t device) {                                               \
        DEVICE();                                                                                  \
        return NOT_SUPPORTED;                                                                      \
    }
UNSUPPORTED(nvmlDeviceGetFanSpeed)
UNSUPPORTED(nvmlDeviceGetFanSpeed_v2)
UNSUPPORTED(nvmlDeviceGetSerial)
UNSUPPORTED(nvmlDeviceGetTotalEccErrors)
UNSUPPORTED(nvmlDeviceGetDriverModel)
UNSUPPORTED(nvmlDeviceGetDriverModel_v2)
UNSUPPORTED(nvmlDeviceGetFieldValues)

/* ---- MIG ------------------------------------------------------------------------------------ */

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    WHOLE();
    if (!GPU().mig_slots) return NOT_SUPPORTED;
    *current = *pending = GPU().mig_enabled;
    return SUCCESS;
}
WHOLE_NUMBER(nvmlDeviceGetMaxMigDeviceCount, GPU().mig_slots)

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
                                                     nvmlDevice_t *instance) {
    WHOLE();
    if (index >= GPU().mig_slots || index >= MAX_SLOTS) return INVALID_ARGUMENT;
    if (!GPU().slots[index].present) return NOT_FOUND;
    *instance = handle_of(device->gpu, (int)index);
    return SUCCESS;
}
API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device,
                                                              nvmlDevice_t *parent) {
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
