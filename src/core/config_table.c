/*
 * config_table: the keys, and the search by name and by likeness. Pure.
 */
#include "core/config_table.h"

#include <string.h>

#define AT(field) offsetof(struct config, field)

/* Bounds that several rows share. A day in the bounds of a time-out means "do not"; nobody needs
 * more. */
#define DAY_NS (86400 * NS_S)
#define NO_MAX UINT64_MAX

const struct config_key config_table[] = {
    {.name = "server.listen",
     .type = CONFIG_LISTEN,
     .offset = AT(listen),
     .initial = "127.0.0.1:8080",
     .help = "addresses to serve, HOST:PORT, separated by commas; :PORT means every interface"},
    {.name = "server.shards",
     .type = CONFIG_COUNT_AUTO,
     .offset = AT(shards),
     .initial = "auto",
     .max = 64,
     .help = "threads that serve connections; auto: one per core that the writer leaves"},
    {.name = "server.io",
     .type = CONFIG_WORD,
     .offset = AT(io),
     .initial = "auto",
     .words = {"auto", "uring", "epoll"},
     .help = "how sockets are served: auto, uring (epoll is not served yet)"},
    {.name = "server.max_body",
     .type = CONFIG_SIZE,
     .offset = AT(max_body),
     .initial = "16M",
     .min = 1024,
     .max = MIB(1024),
     .help = "largest request body, after decompression; beyond: 413"},
    {.name = "server.max_head",
     .type = CONFIG_SIZE,
     .offset = AT(max_head),
     .initial = "16K",
     .min = 1024,
     .max = MIB(1),
     .help = "largest request head; beyond: 431"},
    {.name = "server.max_connections",
     .type = CONFIG_COUNT,
     .offset = AT(max_connections),
     .initial = "10000",
     .min = 1,
     .max = 1000000,
     .help = "open connections of all shards together; beyond: 503"},
    {.name = "server.buffer_memory",
     .type = CONFIG_SIZE,
     .offset = AT(buffer_memory),
     .initial = "64M",
     .min = KIB(64),
     .max = MIB(64 * 1024),
     .help = "connection buffers of each shard, a power of two"},
    {.name = "server.pipeline_max",
     .type = CONFIG_COUNT,
     .offset = AT(pipeline_max),
     .initial = "1024",
     .min = 1,
     .max = 65536,
     .help = "unanswered requests of one connection before reading pauses"},
    {.name = "server.head_timeout",
     .type = CONFIG_TIME,
     .offset = AT(head_timeout_ns),
     .initial = "20s",
     .min = 10 * NS_MS,
     .max = DAY_NS,
     .help = "from the first byte of a request head to its end; beyond: 408"},
    {.name = "server.body_timeout",
     .type = CONFIG_TIME,
     .offset = AT(body_timeout_ns),
     .initial = "20s",
     .min = 10 * NS_MS,
     .max = DAY_NS,
     .help = "for a request body, before body_rate_min buys more; beyond: 408"},
    {.name = "server.body_rate_min",
     .type = CONFIG_SIZE,
     .offset = AT(body_rate_min),
     .initial = "500",
     .min = 1,
     .max = MIB(1024),
     .help = "bytes a second that keep a slow body alive"},
    {.name = "server.idle_timeout",
     .type = CONFIG_TIME,
     .offset = AT(idle_timeout_ns),
     .initial = "60s",
     .min = 10 * NS_MS,
     .max = DAY_NS,
     .help = "silence between requests before the connection is closed"},
    {.name = "server.stop_timeout",
     .type = CONFIG_TIME,
     .offset = AT(stop_timeout_ns),
     .initial = "30s",
     .min = 0,
     .max = DAY_NS,
     .help = "an orderly stop may take this long"},
    {.name = "server.recv_buffers",
     .type = CONFIG_COUNT,
     .offset = AT(recv_buffers),
     .initial = "512",
     .min = 16,
     .max = 32768,
     .help = "receive buffers of each shard, a power of two"},
    {.name = "server.recv_buffer_bytes",
     .type = CONFIG_SIZE,
     .offset = AT(recv_buffer_bytes),
     .initial = "8K",
     .min = 1024,
     .max = MIB(1),
     .help = "size of one receive buffer; large requests have their own"},
    {.name = "server.pin",
     .type = CONFIG_BOOL,
     .offset = AT(pin),
     .initial = "false",
     .help = "pin each thread to a core"},

    {.name = "store.data_dir",
     .type = CONFIG_TEXT,
     .offset = AT(data_dir),
     .initial = "./data",
     .min = 1,
     .help = "where the log and the databases live"},
    {.name = "store.segment_bytes",
     .type = CONFIG_SIZE,
     .offset = AT(segment_bytes),
     .initial = "64M",
     .min = MIB(1),
     .max = MIB(64 * 1024),
     .help = "size of one log file; at least 2 * server.max_body + 1M"},
    {.name = "store.ack",
     .type = CONFIG_WORD_BOOL,
     .offset = AT(ack_memory),
     .initial = "durable",
     .words = {"durable", "memory"},
     .is_reloadable = true,
     .help = "what an answer promises when the client does not say: durable, memory"},
    {.name = "store.retention_age",
     .type = CONFIG_TIME,
     .offset = AT(retention_age_ns),
     .initial = "30d",
     .min = 0,
     .max = NO_MAX,
     .help = "log files older than this may go; 0: no limit"},
    {.name = "store.retention_bytes",
     .type = CONFIG_SIZE,
     .offset = AT(retention_bytes),
     .initial = "100G",
     .min = 0,
     .max = NO_MAX,
     .help = "the log may grow to this; 0: no limit"},
    {.name = "store.reserve_bytes",
     .type = CONFIG_SIZE,
     .offset = AT(reserve_bytes),
     .initial = "64M",
     .min = 0,
     .max = MIB(1024 * 1024),
     .help = "space kept back, so that an orderly stop works on a full disk"},
    {.name = "store.on_corruption",
     .type = CONFIG_WORD_BOOL,
     .offset = AT(refuse_corruption),
     .initial = "quarantine",
     .words = {"quarantine", "refuse"},
     .help = "proven damage at start: quarantine and serve the rest, or refuse"},
    {.name = "store.batch_bytes",
     .type = CONFIG_SIZE,
     .offset = AT(batch_bytes),
     .initial = "1M",
     .min = 4096,
     .max = MIB(64),
     .help = "a commit takes no more than this, unless one request is larger"},
    {.name = "store.commit_pause",
     .type = CONFIG_TIME,
     .offset = AT(commit_pause_ns),
     .initial = "0ms",
     .min = 0,
     .max = 100 * NS_MS,
     .help = "longest pause that gathers a commit when many small ones would follow; 0: never"},
    {.name = "store.spare_segments",
     .type = CONFIG_COUNT,
     .offset = AT(spare_segments),
     .initial = "1",
     .min = 1,
     .max = 64,
     .help = "log files prepared ahead"},
    {.name = "store.allow_volatile",
     .type = CONFIG_BOOL,
     .offset = AT(allow_volatile),
     .initial = "false",
     .help = "accept a data directory that a power cut empties (tmpfs): tests only"},

    {.name = "store.segment_age",
     .type = CONFIG_TIME,
     .offset = AT(segment_age_ns),
     .initial = "1h",
     .min = 0,
     .max = NO_MAX,
     .help = "a segment is left for a new one at this age although it has room; 0: never"},
    {.name = "store.compact",
     .type = CONFIG_BOOL,
     .offset = AT(compacts),
     .initial = "true",
     .help = "rewrite full segments compressed (zstd)"},
    {.name = "store.compact_level",
     .type = CONFIG_COUNT,
     .offset = AT(compact_level),
     .initial = "1",
     .min = 1,
     .max = 19,
     .help = "zstd level: higher is smaller and slower"},
    {.name = "store.compact_rate",
     .type = CONFIG_SIZE,
     .offset = AT(compact_rate),
     .initial = "16M",
     .min = 0,
     .max = NO_MAX,
     .help = "compaction reads no more than this in a second while records come in (sealing four "
             "times it); 0: no limit"},
    {.name = "store.unforwarded",
     .type = CONFIG_WORD_BOOL,
     .offset = AT(unforwarded_drop),
     .initial = "keep",
     .words = {"keep", "drop"},
     .help =
         "retention and records that a sink still waits for: keep them, or drop and count them"},
    {.name = "store.alert_levels",
     .type = CONFIG_TEXT,
     .offset = AT(alert_levels),
     .initial = "80,90,95",
     .help = "warn when the log or the disk is so full, in percent; empty: never"},
    {.name = "store.alert_webhook",
     .type = CONFIG_TEXT,
     .offset = AT(alert_webhook),
     .initial = "",
     .help =
         "http://HOST[:PORT]/PATH that is told of each such crossing (POST, JSON); empty: none"},

    {.name = "query.threads",
     .type = CONFIG_COUNT,
     .offset = AT(query_threads),
     .initial = "0",
     .min = 0,
     .max = 64,
     .help = "threads that answer GET routes and tails; 0: as the cores allow"},
    {.name = "query.max_active",
     .type = CONFIG_COUNT,
     .offset = AT(query_max),
     .initial = "256",
     .min = 1,
     .max = 4096,
     .help = "queries and tails at one time, of each shard; beyond: 503"},
    {.name = "query.timeout",
     .type = CONFIG_TIME,
     .offset = AT(query_timeout_ns),
     .initial = "30s",
     .min = NS_MS,
     .max = NO_MAX,
     .help = "a page of answers is given as far as it was found by then (with its cursor)"},

    {.name = "dedup.ttl",
     .type = CONFIG_TIME,
     .offset = AT(dedup_ttl_ns),
     .initial = "24h",
     .min = NS_S,
     .max = 366 * DAY_NS,
     .help = "how long an idempotency key or event_id is remembered"},
    {.name = "dedup.max_entries",
     .type = CONFIG_COUNT,
     .offset = AT(dedup_entries_max),
     .initial = "1000000",
     .min = 1024,
     .max = 1000000000,
     .help = "keys remembered at most"},

    {.name = "throttle.enabled",
     .type = CONFIG_BOOL,
     .offset = AT(throttle_enabled),
     .initial = "false",
     .is_reloadable = true,
     .help = "slow producers down (429) as the queue grows"},
    {.name = "throttle.max_queue_depth",
     .type = CONFIG_COUNT,
     .offset = AT(throttle_max_queue_depth),
     .initial = "10000",
     .min = 2,
     .max = 1000000000,
     .is_reloadable = true,
     .help = "records in the queue at which throttle.rate is reached"},
    {.name = "throttle.rate",
     .type = CONFIG_RATIO,
     .offset = AT(throttle_rate),
     .initial = "0.5",
     .min = 1000,
     .max = 1000000,
     .is_reloadable = true,
     .help = "share of requests let in at full depth, 0.001 to 1"},

    {.name = "auth.enabled",
     .type = CONFIG_BOOL,
     .offset = AT(auth_enabled),
     .initial = "false",
     .is_reloadable = true,
     .help = "ask for a bearer token"},
    {.name = "auth.tokens",
     .type = CONFIG_TEXT,
     .offset = AT(auth_tokens),
     .initial = "",
     .is_reloadable = true,
     .help = "file of NAME TOKEN SCOPES lines, mode 0600"},
    {.name = "auth.protect_health",
     .type = CONFIG_BOOL,
     .offset = AT(auth_protect_health),
     .initial = "false",
     .is_reloadable = true,
     .help = "ask for a token with scope read on /healthcheck and /metrics, too"},
    {.name = "rate_limit.enabled",
     .type = CONFIG_BOOL,
     .offset = AT(rate_limit_enabled),
     .initial = "false",
     .is_reloadable = true,
     .help = "limit the requests of one client address"},
    {.name = "rate_limit.rpm",
     .type = CONFIG_COUNT,
     .offset = AT(rate_limit_rpm),
     .initial = "60",
     .min = 1,
     .max = 1000000000,
     .is_reloadable = true,
     .help = "requests a minute of one client address"},
    {.name = "cors.origins",
     .type = CONFIG_TEXT,
     .offset = AT(cors_origins),
     .initial = "*",
     .is_reloadable = true,
     .help = "origins that browsers may call from, separated by commas; *: all; empty: none"},
    {.name = "runs.db",
     .type = CONFIG_TEXT,
     .offset = AT(runs_db),
     .initial = "",
     .help = "SQLite file of agent runs; empty: runs.sqlite in store.data_dir"},
    {.name = "runs.lock_file",
     .type = CONFIG_TEXT,
     .offset = AT(runs_lock_file),
     .initial = "",
     .help = "tells others who writes runs.db; empty: telemetry_api.lock beside it"},
    {.name = "runs.ndjson_dir",
     .type = CONFIG_TEXT,
     .offset = AT(runs_ndjson_dir),
     .initial = "",
     .help = "applied commands also as lines of events_{YYYYMMDD}.ndjson there; empty: nowhere"},
    {.name = "health.stall_threshold",
     .type = CONFIG_TIME,
     .offset = AT(health_stall_ns),
     .initial = "5s",
     .min = 10 * NS_MS,
     .max = DAY_NS,
     .is_reloadable = true,
     .help = "a record this long undurable, or a thread this long silent, is a 503"},
    {.name = "log.level",
     .type = CONFIG_WORD,
     .offset = AT(log_level),
     .initial = "info",
     .words = {"debug", "info", "warning", "error"},
     .is_reloadable = true,
     .help = "debug, info, warning, error"},
    {.name = "log.format",
     .type = CONFIG_WORD,
     .offset = AT(log_format),
     .initial = "auto",
     .words = {"auto", "text", "json"},
     .help = "auto (text on a terminal, JSON otherwise), text, json"},
};

const size_t config_table_count = ARRAY_COUNT(config_table);

_Static_assert(ARRAY_COUNT(config_table) <= CONFIG_KEYS_MAX,
               "each row has an origin in struct config_load");
_Static_assert(sizeof(enum config_io) == sizeof(unsigned), "CONFIG_WORD stores an unsigned");
_Static_assert(sizeof(enum config_log_format) == sizeof(unsigned),
               "CONFIG_WORD stores an unsigned");

const struct config_key *config_table_find(const char *name)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < config_table_count; i++) {
        if (strcmp(config_table[i].name, name) == 0) {
            return &config_table[i];
        }
    }
    return NULL;
}

void config_table_variable(char *out, const struct config_key *key)
{
    static const char prefix[] = "SLUICE_";
    size_t n = strlen(key->name);
    ASSERT(n < CONFIG_KEY_BYTES);
    memcpy(out, prefix, sizeof prefix - 1);
    out += sizeof prefix - 1;
    for (size_t i = 0; i <= n; i++) {
        char c = key->name[i];
        if (c == '.') {
            c = '_';
        } else if (c >= 'a' && c <= 'z') {
            c = (char)(c - 'a' + 'A');
        }
        out[i] = c;
    }
}

/* Levenshtein distance in one row. Names longer than a key can be are cut: they are wrong anyway.
 */
size_t config_table_distance(const char *a, const char *b)
{
    size_t row[CONFIG_KEY_BYTES + 1];
    size_t a_bytes = strnlen(a, CONFIG_KEY_BYTES);
    size_t b_bytes = strnlen(b, CONFIG_KEY_BYTES);
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            if (above + 1 < best) {
                best = above + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b_bytes];
}

/* People forget the section, or give the wrong one: what follows the dot counts as a name of its
 * own. */
static const char *table_tail(const char *name)
{
    const char *dot = strchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

const char *config_table_nearest(const char *name)
{
    const char *nearest = NULL;
    size_t best =
        strlen(name) / 2 + 1; /* more than half of it wrong is another word, not a typing error */
    for (size_t i = 0; i < config_table_count; i++) {
        size_t distance = config_table_distance(name, config_table[i].name);
        if (strcmp(table_tail(name), table_tail(config_table[i].name)) == 0 && distance > 1) {
            distance = 1;
        }
        if (distance < best) {
            best = distance;
            nearest = config_table[i].name;
        }
    }
    return nearest;
}
