#include "cli/bench_server.h"

#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 64
#define READY_WAIT_MS 30000

static NORETURN void bench_server_exec(int log_fd, const char *data_dir, char *const *arguments)
{
    char *argv[ARGUMENTS_MAX + 8] = {
        "sluice", "serve", "--data-dir", (char *)(uintptr_t)data_dir, "--listen", "127.0.0.1:0"};
    unsigned count = 6;
    for (unsigned i = 0; arguments != NULL && arguments[i] != NULL && i < ARGUMENTS_MAX; i++) {
        argv[count++] = arguments[i];
    }
    dup2(log_fd, STDERR_FILENO);
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* Reads the child's log until it names its port. The pipe stays open in the child; what follows is
 * discarded by closing ours only at the end, so the child never blocks: it logs a handful of lines.
 */
static int bench_server_wait_ready(struct bench_server *server, int log_fd, struct err *err)
{
    char text[8192];
    size_t used = 0;
    uint64_t deadline_ns = clock_mono_ns() + READY_WAIT_MS * NS_MS;
    while (used < sizeof text - 1 && clock_mono_ns() < deadline_ns) {
        struct pollfd pollfd = {.fd = log_fd, .events = POLLIN};
        if (poll(&pollfd, 1, 1000) <= 0) {
            continue;
        }
        ssize_t got = read(log_fd, text + used, sizeof text - 1 - used);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
        text[used] = 0;
        const char *ready = strstr(text, "serving on http://127.0.0.1:");
        const char *digits = ready == NULL ? NULL
                             : strrchr(ready, '\n') == NULL
                                 ? NULL
                                 : ready + sizeof "serving on http://127.0.0.1:" - 1;
        if (digits != NULL) {
            server->port = (unsigned)strtoul(digits, NULL, 10);
            return 0;
        }
    }
    text[used] = 0;
    return err_set(err, -ETIMEDOUT, "the server did not become ready: %.600s", text);
}

int bench_server_start(struct bench_server *server, const char *data_dir, char *const *arguments,
                       struct err *err)
{
    int log_pipe[2];
    if (pipe2(log_pipe, O_CLOEXEC) < 0) {
        return err_set(err, -errno, "pipe: %s", err_name(-errno));
    }
    server->pid = fork();
    if (server->pid == 0) {
        bench_server_exec(log_pipe[1], data_dir, arguments);
    }
    close(log_pipe[1]);
    int result = server->pid < 0 ? err_set(err, -errno, "fork: %s", err_name(-errno))
                                 : bench_server_wait_ready(server, log_pipe[0], err);
    if (result < 0) {
        bench_server_kill(server);
        close(log_pipe[0]);
        return result;
    }
    /* Moved out of the way but kept open: a closed pipe would turn the child's next log line into
     * EPIPE. */
    return 0;
}

void bench_server_kill(struct bench_server *server)
{
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
    }
    server->pid = 0;
}

int bench_server_stop(struct bench_server *server)
{
    int status = 0;
    if (server->pid <= 0) {
        return -1;
    }
    kill(server->pid, SIGTERM);
    waitpid(server->pid, &status, 0);
    server->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static size_t read_file(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, text, capacity - 1);
    close(fd);
    text[got < 0 ? 0 : got] = 0;
    return got < 0 ? 0 : (size_t)got;
}

uint64_t bench_process_cpu_us(pid_t pid)
{
    char path[64];
    char text[1024];
    unsigned long long user = 0;
    unsigned long long system_time = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) == 0) {
        return 0;
    }
    const char *after_name = strrchr(text, ')');
    if (after_name == NULL ||
        sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system_time) != 2) {
        return 0;
    }
    return (user + system_time) * (uint64_t)(1000000 / sysconf(_SC_CLK_TCK));
}

uint64_t bench_system_cpu_us(void)
{
    char text[1024];
    unsigned long long user = 0, nice_time = 0, system_time = 0, idle = 0, io = 0, irq = 0,
                       soft = 0;
    if (read_file("/proc/stat", text, sizeof text) == 0 ||
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice_time, &system_time,
               &idle, &io, &irq, &soft) != 7) {
        return 0;
    }
    return (user + nice_time + system_time + irq + soft) *
           (uint64_t)(1000000 / sysconf(_SC_CLK_TCK));
}

uint64_t bench_process_rss_bytes(pid_t pid)
{
    char path[64];
    char text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_file(path, text, sizeof text) == 0) {
        return 0;
    }
    const char *rss = strstr(text, "VmRSS:");
    return rss == NULL ? 0 : strtoull(rss + 6, NULL, 10) * 1024;
}
