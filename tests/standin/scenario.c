/* Reads the scenario file: lines of fields separated by tabs; standin.py writes them and documents
 * what they mean.
 */

#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct scenario now;
static struct timespec read_at;
static ino_t read_inode;

static void copy(char *to, const char *from) { snprintf(to, MAX_TEXT, "%s", from); }

/* `*`, `GPU`, `GPU.SLOT`, or `GPU.-1` for the GPU without its instances. */
static void read_rule(struct rule *rule, char **f) {
    const char *slot = strchr(f[1], '.');
    copy(rule->call, f[0]);
    rule->gpu = strcmp(f[1], "*") ? atoi(f[1]) : ANY;
    rule->slot = slot ? atoi(slot + 1) : ANY;
    rule->value = atoi(f[2]);
}

static uint64_t big(const char *text) {
    return strcmp(text, "N/A") ? strtoull(text, NULL, 10) : NOT_AVAILABLE;
}

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
    for (char *field; n < 24 && (field = strsep(&line, "\t\n"));)
        f[n++] = field;
    for (int i = n; i < 24; i++)
        f[i] = "";
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
        gpu->temperature_c = small(f[10]), gpu->power_mw = small(f[11]),
        gpu->limit_mw = small(f[12]);
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

void refresh(void) {
    const char *path = getenv("NVML_STANDIN_SCENARIO");
    struct stat status;
    if (!path || stat(path, &status)) return;
    if (status.st_ino == read_inode && status.st_mtim.tv_sec == read_at.tv_sec &&
        status.st_mtim.tv_nsec == read_at.tv_nsec)
        return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    memset(&now, 0, sizeof now);
    char line[1024];
    while (fgets(line, sizeof line, file))
        read_line(line);
    fclose(file);
    read_inode = status.st_ino, read_at = status.st_mtim;
}

int rule_value(const struct rule *rules, int count, const char *call, int gpu, int slot) {
    for (int i = 0; i < count; i++) {
        int about = (rules[i].gpu == ANY || rules[i].gpu == gpu) &&
                    (rules[i].slot == ANY || rules[i].slot == slot);
        if (about && (!strcmp(rules[i].call, "*") || !strcmp(rules[i].call, call)))
            return rules[i].value;
    }
    return 0;
}
