/*
 * config_check: what no single value can get wrong. Each problem names the key, where it was set,
 * and a value that would do.
 */
#include "core/config_table.h"

#include <stdio.h>
#include <string.h>

/* What a batch needs besides its records: header, padding, the mark that closes it. 1M is generous
 * and easy to remember. */
#define CHECK_BATCH_SLACK MIB(1)

/* "server.max_body (sluice.conf:3)"; just the key when it has its default. */
static const char *check_name(const struct config_load *load, const char *key, char *out,
                              size_t capacity)
{
    const char *origin = config_origin(load, key);
    if (strcmp(origin, "default") == 0) {
        (void)snprintf(out, capacity, "%s", key);
    } else {
        (void)snprintf(out, capacity, "%s: %s", origin, key);
    }
    return out;
}

static bool check_can_judge(const struct config_load *load, const char *a, const char *b)
{
    return config_is_trusted(load, a) && config_is_trusted(load, b);
}

static void check_put_size(char *out, size_t capacity, uint64_t bytes)
{
    if (bytes % MIB(1) == 0) {
        (void)snprintf(out, capacity, "%lluM", (unsigned long long)(bytes >> 20));
    } else {
        (void)snprintf(out, capacity, "%lluK", (unsigned long long)((bytes + 1023) >> 10));
    }
}

/* One request is one batch (promise 2), records carry a header each, and a batch never spans
 * segments. */
static void check_segment(struct config_load *load)
{
    const struct config *config = load->config;
    char name[CONFIG_ORIGIN_BYTES + CONFIG_KEY_BYTES];
    char need_text[32];
    char body_text[32];
    uint64_t need = align_up(2 * config->max_body + CHECK_BATCH_SLACK, MIB(1));
    (void)check_name(load, "store.segment_bytes", name, sizeof name);
    if (config->segment_bytes % 4096 != 0) {
        config_problem(load, "%s: must be a multiple of 4K", name);
    }
    if (config->segment_bytes < need &&
        check_can_judge(load, "store.segment_bytes", "server.max_body")) {
        check_put_size(need_text, sizeof need_text, need);
        check_put_size(body_text, sizeof body_text, config->max_body);
        config_problem(load,
                       "%s: too small: a request of server.max_body (%s) is one batch and must fit "
                       "in one segment: "
                       "set at least %s, or lower server.max_body",
                       name, body_text, need_text);
    }
    if (config->batch_bytes + CHECK_BATCH_SLACK > config->segment_bytes &&
        check_can_judge(load, "store.segment_bytes", "store.batch_bytes")) {
        check_put_size(need_text, sizeof need_text, config->segment_bytes - CHECK_BATCH_SLACK);
        config_problem(load, "%s: a batch must fit in store.segment_bytes: set at most %s",
                       check_name(load, "store.batch_bytes", name, sizeof name), need_text);
    }
    if (config->retention_bytes != 0 && config->retention_bytes < 2 * config->segment_bytes &&
        check_can_judge(load, "store.segment_bytes", "store.retention_bytes")) {
        check_put_size(need_text, sizeof need_text, 2 * config->segment_bytes);
        config_problem(
            load, "%s: the log needs room for two segments: set at least %s, or 0 for no limit",
            check_name(load, "store.retention_bytes", name, sizeof name), need_text);
    }
}

/* A body is gathered in one block of the arena, and blocks are powers of two. */
static void check_buffers(struct config_load *load)
{
    const struct config *config = load->config;
    char name[CONFIG_ORIGIN_BYTES + CONFIG_KEY_BYTES];
    char need_text[32];
    uint64_t need = KIB(64);
    while (need <
           config->max_body + config->max_head) { /* at most 15 turns: max_body is bounded by 1G */
        need *= 2;
    }
    if (!is_power_of_two(config->buffer_memory)) {
        config_problem(load, "%s: must be a power of two, such as 64M or 128M",
                       check_name(load, "server.buffer_memory", name, sizeof name));
    } else if (config->buffer_memory < need &&
               check_can_judge(load, "server.buffer_memory", "server.max_body")) {
        check_put_size(need_text, sizeof need_text, need);
        config_problem(load, "%s: cannot hold one request of server.max_body: set at least %s",
                       check_name(load, "server.buffer_memory", name, sizeof name), need_text);
    }
    if (!is_power_of_two(config->recv_buffers)) {
        config_problem(load, "%s: must be a power of two, such as 1024",
                       check_name(load, "server.recv_buffers", name, sizeof name));
    }
}

static void check_auth(struct config_load *load)
{
    char name[CONFIG_ORIGIN_BYTES + CONFIG_KEY_BYTES];
    if (load->config->auth_enabled && load->config->auth_tokens[0] == '\0' && !load->has_token &&
        check_can_judge(load, "auth.enabled", "auth.tokens")) {
        config_problem(
            load, "%s: nobody could get in: set auth.tokens to a file of NAME TOKEN SCOPES lines",
            check_name(load, "auth.enabled", name, sizeof name));
    }
}

/* runs.db follows the data directory unless it was set. */
static void check_runs_db(struct config_load *load)
{
    struct config *config = load->config;
    if (config->runs_db[0] != '\0') {
        return;
    }
    char name[CONFIG_ORIGIN_BYTES + CONFIG_KEY_BYTES];
    int n = snprintf(config->runs_db, sizeof config->runs_db, "%s/runs.sqlite", config->data_dir);
    if (n < 0 || (size_t)n >= sizeof config->runs_db) {
        config_problem(load, "%s: too long for the files below it (at most %zu bytes)",
                       check_name(load, "store.data_dir", name, sizeof name),
                       sizeof config->runs_db - sizeof "/runs.sqlite");
    }
}

void config_check(struct config_load *load)
{
    check_segment(load);
    check_buffers(load);
    check_auth(load);
    check_runs_db(load);
    config_check_sinks(load);
    config_check_pollers(load);
}
