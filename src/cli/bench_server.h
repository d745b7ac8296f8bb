/*
 * bench_server: a Sluice of our own as a child process, for `sluice bench`: start, wait for
 * "ready", read its CPU time, kill -9.
 */
#ifndef CLI_BENCH_SERVER_H
#define CLI_BENCH_SERVER_H

#include "core/base.h"
#include "core/err.h"

#include <sys/types.h>

struct bench_server {
    pid_t pid; /* 0: not running */
    unsigned port;
};

/* arguments: NULL-terminated, appended to "serve --data-dir DIR --listen 127.0.0.1:0". */
int bench_server_start(struct bench_server *server, const char *data_dir, char *const *arguments,
                       struct err *err) MUST_USE;
void bench_server_kill(struct bench_server *server);
/* SIGTERM and wait; the exit code, or -1 when it died otherwise. */
int bench_server_stop(struct bench_server *server);
/* User + system time of a process so far, in microseconds; 0 when it cannot be read. */
uint64_t bench_process_cpu_us(pid_t pid);
/* Busy time of all CPUs since boot, in microseconds. */
uint64_t bench_system_cpu_us(void);
uint64_t bench_process_rss_bytes(pid_t pid);

#endif
