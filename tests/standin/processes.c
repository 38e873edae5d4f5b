/* The process lists of the stand-in driver, in every version of the calls. */

#include "driver.h"

#include <string.h>

struct process_info {
    uint32_t pid;
    uint64_t used;
    uint32_t gi, ci;
    uint64_t protected_bytes;
};

static int listed(const struct process *process, char list, nvmlDevice_t device) {
    if (process->list != list) return 0;
    if (device->slot == WHOLE_GPU) return 1;
    const struct unit *unit = unit_of(device);
    return process->gi == unit->gi && process->ci == unit->ci;
}

/* `stride`: bytes of one entry in the caller's array, a prefix of struct process_info. */
static nvmlReturn_t list_processes(nvmlDevice_t device, char list, size_t stride, unsigned *count,
                                   void *array) {
    struct gpu *gpu = &GPU();
    unsigned needed = 0;
    for (int i = 0; i < gpu->process_count; i++)
        needed += (unsigned)listed(&gpu->processes[i], list, device);
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

#define PROCESS_LISTS(name, list)                                                                  \
    API nvmlReturn_t name(nvmlDevice_t device, unsigned *count, void *array) {                     \
        DEVICE();                                                                                  \
        return list_processes(device, list, 16, count, array);                                     \
    }                                                                                              \
    API nvmlReturn_t name##_v2(nvmlDevice_t device, unsigned *count, void *array) {                \
        DEVICE();                                                                                  \
        return list_processes(device, list, 24, count, array);                                     \
    }                                                                                              \
    API nvmlReturn_t name##_v3(nvmlDevice_t device, unsigned *count, void *array) {                \
        DEVICE();                                                                                  \
        return list_processes(device, list, (size_t)now.process_bytes, count, array);              \
    }
PROCESS_LISTS(nvmlDeviceGetComputeRunningProcesses, 'C')
PROCESS_LISTS(nvmlDeviceGetGraphicsRunningProcesses, 'G')
PROCESS_LISTS(nvmlDeviceGetMPSComputeRunningProcesses, 'M')

struct process_utilization {
    uint32_t pid;
    uint64_t at_us;
    uint32_t sm, memory, encoder, decoder;
};

API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                                 struct process_utilization *samples,
                                                 unsigned *count, unsigned long long since_us) {
    WHOLE();
    struct gpu *gpu = &GPU();
    if (!gpu->process_count) return *count = 0, NOT_FOUND;
    if (!samples || *count < (unsigned)gpu->process_count)
        return *count = (unsigned)gpu->process_count, INSUFFICIENT_SIZE;
    *count = (unsigned)gpu->process_count;
    for (unsigned i = 0; i < *count; i++)
        samples[i] = (struct process_utilization){gpu->processes[i].pid,
                                                  since_us + 1,
                                                  gpu->gpu_percent / *count,
                                                  gpu->memory_percent / *count,
                                                  0,
                                                  0};
    return SUCCESS;
}
