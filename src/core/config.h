/*
 * config: one immutable struct, from defaults < file (INI, libinih) < environment
 * (SLUICE_SECTION_KEY, and the names that people bring from the systems Sluice replaces, api.md §6)
 * < flags (--set section.key=value). Parsed and validated as a whole: all problems are listed at
 * once, each with where it came from (file:line, variable, flag), and nothing else happens.
 *
 * A key is one row of the table in config_table.c: name, type, default, bounds, whether SIGHUP may
 * change it, one line of help. `sluice config` prints the table with values and origins.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/base.h"
#include "core/buf.h"
#include "core/config_sinks.h"
#include "core/err.h"

#define CONFIG_TEXT_BYTES   256
#define CONFIG_LISTEN_MAX   16
#define CONFIG_PROBLEMS_MAX 32
#define CONFIG_WARNINGS_MAX 8

enum config_io {
    CONFIG_IO_AUTO = 0,
    CONFIG_IO_URING,
    CONFIG_IO_EPOLL,
};

enum config_log_format {
    CONFIG_LOG_AUTO = 0,
    CONFIG_LOG_TEXT,
    CONFIG_LOG_JSON,
};

struct config {
    /* server.* */
    char listen[CONFIG_LISTEN_MAX]
               [CONFIG_TEXT_BYTES]; /* server.listen: comma separated; default 127.0.0.1:8080 */
    unsigned listen_count;
    uint64_t shards;            /* server.shards: auto = 0 */
    enum config_io io;          /* server.io */
    uint64_t max_body;          /* server.max_body 16M */
    uint64_t max_head;          /* server.max_head 16K */
    uint64_t max_connections;   /* server.max_connections 10000 */
    uint64_t buffer_memory;     /* server.buffer_memory 64M per shard: connection buffers */
    uint64_t pipeline_max;      /* server.pipeline_max 1024 */
    uint64_t head_timeout_ns;   /* server.head_timeout 20s */
    uint64_t body_timeout_ns;   /* server.body_timeout 20s */
    uint64_t body_rate_min;     /* server.body_rate_min 500 bytes/s */
    uint64_t idle_timeout_ns;   /* server.idle_timeout 60s */
    uint64_t stop_timeout_ns;   /* server.stop_timeout 30s */
    uint64_t recv_buffers;      /* server.recv_buffers */
    uint64_t recv_buffer_bytes; /* server.recv_buffer_bytes */
    bool pin;                   /* server.pin: pin agents to cores; false */
    /* store.* */
    char data_dir[CONFIG_TEXT_BYTES]; /* ./data */
    uint64_t segment_bytes;           /* 64M */
    bool ack_memory;                  /* store.ack = durable | memory */
    uint64_t retention_age_ns;        /* 30d */
    uint64_t retention_bytes;         /* 100G */
    uint64_t reserve_bytes;           /* 64M */
    bool refuse_corruption;           /* store.on_corruption = quarantine | refuse */
    uint64_t batch_bytes;             /* store.batch_bytes 1M */
    uint64_t commit_pause_ns;         /* store.commit_pause 0: off */
    uint64_t spare_segments;          /* store.spare_segments 1 */
    bool allow_volatile;              /* store.allow_volatile false */
    uint64_t segment_age_ns; /* store.segment_age 1h: an older segment is left for a new one */
    bool compacts;           /* store.compact true */
    uint64_t compact_level;  /* store.compact_level 1 */
    uint64_t compact_rate;   /* store.compact_rate 16M: bytes a second while ingest is busy */
    bool unforwarded_drop;   /* store.unforwarded = keep | drop */
    char alert_levels[CONFIG_TEXT_BYTES];  /* store.alert_levels 80,90,95: percent of what may be
                                              used */
    char alert_webhook[CONFIG_TEXT_BYTES]; /* store.alert_webhook: http://... told of each crossing
                                            */
    /* query.* */
    uint64_t query_threads;    /* query.threads: auto = 0 */
    uint64_t query_max;        /* query.max_active 256: queries and tails at one time, each shard */
    uint64_t query_timeout_ns; /* query.timeout 60s: for a page, not for streams */
    /* dedup.* */
    uint64_t dedup_ttl_ns;      /* 24h */
    uint64_t dedup_entries_max; /* dedup.max_entries 1000000 */
    /* throttle.*: the token bucket with the documents' curve */
    bool throttle_enabled;
    uint64_t throttle_max_queue_depth; /* 10000 records */
    double throttle_rate;              /* 0.5 */
    /* auth.*, rate_limit.*, cors.*: judged in api (gate.h) */
    char auth_tokens[CONFIG_TEXT_BYTES];
    bool auth_enabled;
    bool auth_protect_health; /* auth.protect_health false */
    /* TELEMETRY_API_AUTH_TOKEN: a secret, therefore no key, never printed, and fixed for the life
     * of the process. */
    char auth_environment_token[CONFIG_TEXT_BYTES];
    bool rate_limit_enabled;
    uint64_t rate_limit_rpm;              /* 60 */
    char cors_origins[CONFIG_TEXT_BYTES]; /* * */
    char runs_db[CONFIG_TEXT_BYTES];
    char runs_lock_file[CONFIG_TEXT_BYTES];  /* empty: telemetry_api.lock beside runs.db */
    char runs_ndjson_dir[CONFIG_TEXT_BYTES]; /* empty: no mirror */
    /* health.* */
    uint64_t health_stall_ns; /* health.stall_threshold 5s: oldest undurable record, silent agent */
    /* log.* */
    unsigned log_level; /* 0 debug 1 info 2 warning 3 error */
    enum config_log_format log_format;

    /* sink.NAME.*, poller.NAME.*: config_sinks.h; in the order of their names */
    unsigned sink_count;
    struct config_sink sinks[CONFIG_SINKS_MAX];
    unsigned poller_count;
    struct config_poller pollers[CONFIG_POLLERS_MAX];

    uint64_t generation; /* 1 at start, counted up by each successful reload */
};

struct config_problems {
    unsigned count; /* may exceed CONFIG_PROBLEMS_MAX; the rest is counted only */
    char text[CONFIG_PROBLEMS_MAX][ERR_TEXT_BYTES];
    unsigned warning_count; /* accepted, but not what the writer may expect; also counted beyond the
                               array */
    char warnings[CONFIG_WARNINGS_MAX][ERR_TEXT_BYTES];
};

/* Adds one; beyond CONFIG_PROBLEMS_MAX it is only counted. For those who check what a value names.
 */
void config_problems_add(struct config_problems *problems, const char *format, ...)
    PRINTF_LIKE(2, 3);

/* Where values come from. file NULL: none (./sluice.conf is not read by itself). */
struct config_sources {
    const char *file;
    char *const *environment; /* as environ; NULL: none */
    const char *const *sets;  /* "section.key=value" */
    unsigned set_count;
};

/* Fills config completely. 0, or -EINVAL with every problem listed. */
int config_load(struct config *config, const struct config_sources *sources,
                struct config_problems *problems) MUST_USE;

/* `sluice config`: each key, its effective value, where it came from, help. is_json: one object.
 * Secrets are not values of keys (auth.tokens names a file), so nothing is hidden. */
void config_print(struct buf *out, const struct config *config,
                  const struct config_sources *sources, bool is_json);

/* Reload: takes into running what may change while running; lists in applied and ignored the names
 * that differ. */
void config_apply_reload(struct config *running, const struct config *fresh, struct buf *applied,
                         struct buf *ignored);

/* "16M", "500us", "30d" ... Pure; 0 or -EINVAL. Sizes: K M G T (powers of 1024), times: ns us ms s
 * m h d. */
int config_parse_size(uint64_t *bytes, const char *text) MUST_USE;
int config_parse_time(uint64_t *ns, const char *text) MUST_USE;

#endif
