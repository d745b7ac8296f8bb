/*
 * doctor_host: kernel, io_uring, limits, cores and clock. Reads /proc and /sys, creates one small
 * ring; changes nothing.
 */
#include "cli/doctor.h"

#include "core/clock.h"
#include "core/descriptors.h"
#include "core/uring_probe.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

/* The rings and buffer ring of a shard and of the writer stay well below this. */
#define HOST_MEMLOCK_BYTES_PER_RING MIB(1)

/* --- kernel and io_uring
 * ------------------------------------------------------------------------------------------- */

static void host_check_release(struct doctor *doctor)
{
    struct utsname host;
    unsigned major = 0;
    unsigned minor = 0;
    if (uname(&host) < 0 || sscanf(host.release, "%u.%u", &major, &minor) != 2) {
        return; /* UNTESTED: uname fails for a bad pointer only */
    }
    if (major > 6 || (major == 6 && minor >= 1)) {
        doctor_ok(doctor, "kernel", "Linux %s", host.release);
        return;
    }
    doctor_say(doctor,
               &(struct doctor_advice){.verdict = DOCTOR_PROBLEM,
                                       .subject = "kernel",
                                       .why = "io_uring is used from 6.1 on (DEFER_TASKRUN)",
                                       .mend = "a newer kernel"},
               "Linux %s", host.release);
}

static void host_say_uring_failed(struct doctor *doctor, int result, const struct err *err)
{
    doctor_say(doctor,
               &(struct doctor_advice){.verdict = DOCTOR_PROBLEM,
                                       .subject = "io_uring",
                                       .why = uring_is_unavailable(result)
                                                  ? "Sluice serves through io_uring only"
                                                  : "it is there but short of a resource; to go on "
                                                    "without it would be slow in silence",
                                       .mend = "do what the text says, then run doctor again"},
               "%s", err->text);
}

static void host_check_uring(struct doctor *doctor)
{
    struct uring_caps caps;
    struct err err = {.code = 0};
    if (doctor->config->io == CONFIG_IO_EPOLL) {
        doctor_say(doctor,
                   &(struct doctor_advice){.verdict = DOCTOR_PROBLEM,
                                           .subject = "io_uring",
                                           .why = "this version has no epoll backend",
                                           .mend = "set it to auto"},
                   "server.io = epoll");
        return;
    }
    int r = uring_probe(&caps, &err);
    if (r < 0) {
        host_say_uring_failed(doctor, r, &err);
        return;
    }
    doctor_ok(doctor, "io_uring", "DEFER_TASKRUN, multishot receive into provided buffers%s%s%s",
              caps.has_taskrun_flag ? ", TASKRUN_FLAG" : "",
              caps.has_bundles ? ", bundles offered" : "",
              caps.has_min_timeout ? ", min-timeout offered" : "");
}

void doctor_check_kernel(struct doctor *doctor)
{
    host_check_release(doctor);
    host_check_uring(doctor);
}

/* --- limits
 * --------------------------------------------------------------------------------------------------------
 */

static void host_check_memlock(struct doctor *doctor)
{
    struct rlimit limit;
    uint64_t rings = (doctor->config->shards == 0 ? 1 : doctor->config->shards) + 1;
    if (doctor->config->io == CONFIG_IO_EPOLL || getrlimit(RLIMIT_MEMLOCK, &limit) < 0) {
        return;
    }
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= rings * HOST_MEMLOCK_BYTES_PER_RING) {
        doctor_ok(doctor, "locked memory",
                  limit.rlim_cur == RLIM_INFINITY ? "unlimited" : "%llu KiB",
                  (unsigned long long)limit.rlim_cur / 1024);
        return;
    }
    doctor_say(
        doctor,
        &(struct doctor_advice){
            .verdict = DOCTOR_NOTE,
            .subject = "locked memory",
            .why = "kernels charge io_uring's rings to it, for all processes of the user together",
            .mend = "LimitMEMLOCK=infinity in the unit, or --ulimit memlock=-1 for a container"},
        "limit %llu KiB", (unsigned long long)limit.rlim_cur / 1024);
}

/* The server raises its soft limit to the hard one by itself. */
static void host_check_descriptors(struct doctor *doctor)
{
    struct descriptors limit = descriptors_get();
    const struct config *config = doctor->config;
    unsigned long long most = u64_min(u64_max(limit.soft, limit.hard), DESCRIPTORS_MAX);
    unsigned long long needed = descriptors_needed(config);
    unsigned long long segments = descriptors_for_segments(config);
    unsigned long long connections = config->max_connections;
    if (most >= needed) {
        doctor_ok(doctor, "descriptors",
                  "%llu, for server.max_connections = %llu and some %llu segments of a full log",
                  most, connections, segments);
        return;
    }
    doctor_say(doctor,
               &(struct doctor_advice){
                   .verdict = DOCTOR_NOTE,
                   .subject = "descriptors",
                   .why =
                       "connections beyond it are refused before the server can answer them, and "
                       "segments beyond it are left out of queries",
                   .mend = "LimitNOFILE= in the unit or ulimit -Hn, or lower "
                           "server.max_connections or store.retention_bytes"},
               "hard limit %llu; server.max_connections = %llu and some %llu segments of a full "
               "log need %llu",
               most, connections, segments, needed);
}

static void host_check_somaxconn(struct doctor *doctor)
{
    char line[64];
    unsigned long value = 0;
    if (!doctor_read_line(line, sizeof line, "/proc/sys/net/core/somaxconn")) {
        return;
    }
    value = strtoul(line, NULL, 10);
    if (value >= 1024) {
        doctor_ok(doctor, "listen backlog", "net.core.somaxconn = %lu", value);
        return;
    }
    doctor_say(doctor,
               &(struct doctor_advice){
                   .verdict = DOCTOR_NOTE,
                   .subject = "listen backlog",
                   .why = "a burst of new connections beyond it waits for a second retry",
                   .mend = "sysctl net.core.somaxconn=4096"},
               "net.core.somaxconn = %lu", value);
}

void doctor_check_limits(struct doctor *doctor)
{
    host_check_memlock(doctor);
    host_check_descriptors(doctor);
    host_check_somaxconn(doctor);
}

/* --- cores and clock
 * -----------------------------------------------------------------------------------------------
 */

/* As app_shard_count: one core for the writer, beyond three another for the forwarder and queries.
 */
static unsigned host_auto_shards(unsigned cores)
{
    unsigned left = cores > 3 ? cores - 2 : cores - 1;
    return (unsigned)u64_max(1, u64_min(left, 64));
}

void doctor_check_cores(struct doctor *doctor)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0) {
        return; /* UNTESTED: more than 1024 CPUs */
    }
    unsigned cores = (unsigned)CPU_COUNT(&set);
    if (cores == 1) {
        doctor_say(doctor,
                   &(struct doctor_advice){.verdict = DOCTOR_NOTE,
                                           .subject = "cores",
                                           .why = "shard and writer take turns on it",
                                           .mend = "two cores or more for a busy server"},
                   "one core");
        return;
    }
    if (doctor->config->shards == 0) {
        doctor_ok(doctor, "cores", "%u; server.shards = auto starts %u", cores,
                  host_auto_shards(cores));
    } else {
        doctor_ok(doctor, "cores", "%u; server.shards = %llu", cores,
                  (unsigned long long)doctor->config->shards);
    }
}

/* Sources that are read without a system call. */
static bool host_clock_is_fast(const char *source)
{
    static const char *const fast[] = {"tsc", "kvm-clock", "arch_sys_counter",
                                       "hyperv_clocksource_tsc_page"};
    for (size_t i = 0; i < ARRAY_COUNT(fast); i++) {
        if (strcmp(source, fast[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void host_check_clock_source(struct doctor *doctor, long resolution_ns)
{
    char source[64];
    if (!doctor_read_line(source, sizeof source,
                          "/sys/devices/system/clocksource/clocksource0/current_clocksource")) {
        (void)snprintf(source, sizeof source, "unknown");
    }
    if (resolution_ns <= 1000 && host_clock_is_fast(source)) {
        doctor_ok(doctor, "clock", "%s, resolution %ld ns", source, resolution_ns);
        return;
    }
    doctor_say(
        doctor,
        &(struct doctor_advice){
            .verdict = DOCTOR_NOTE,
            .subject = "clock",
            .why = "each look at the clock may cost a system call or a trip to a device",
            .mend =
                "see available_clocksource beside it in /sys; tsc or kvm-clock are the fast ones"},
        "source %s, resolution %ld ns", source, resolution_ns);
}

void doctor_check_clock(struct doctor *doctor)
{
    struct timespec resolution = {0, 0};
    (void)clock_getres(CLOCK_MONOTONIC, &resolution);
    host_check_clock_source(doctor, resolution.tv_sec == 0 ? resolution.tv_nsec : (long)NS_S);
    /* 2024-01-01: a machine without a battery wakes up in 1970, and record ids sort by time. */
    if (clock_real_ns() < (int64_t)(1704067200 * NS_S)) {
        doctor_say(
            doctor,
            &(struct doctor_advice){.verdict = DOCTOR_NOTE,
                                    .subject = "date",
                                    .why = "record ids and times of receipt are taken from it",
                                    .mend = "synchronize the clock (NTP) before records arrive"},
            "the clock says it is before 2024");
    }
}
