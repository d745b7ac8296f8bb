#include "forward/streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/logline.h"
#include "forward/replay.h"
#include "forward/replay_job.h"

#define KEY_BYTES  (CONFIG_SINK_NAME_MAX + 32)
#define PATH_BYTES 4096

/* ---- one key ---- */

static int stream_get(struct forward_db *db, const char *key, struct ulid *stream, struct err *err)
{
    char text[ULID_TEXT_BYTES + 1] = "";
    int r = forward_db_meta_get(db, key, text, sizeof text, err);
    if (r == 1 && ulid_parse(stream, (struct slice){(const uint8_t *)text, strlen(text)}) < 0) {
        return err_set(err, ERR_CORRUPT, "%s: '%s' is no ULID", key, text);
    }
    return r;
}

static int stream_put(struct forward_db *db, const char *key, const struct ulid *stream,
                      struct err *err)
{
    char text[ULID_TEXT_BYTES + 1] = "";
    ulid_format(text, stream);
    return forward_db_meta_put(db, key, text, err);
}

static const char *sink_key(char *key, const char *sink)
{
    (void)snprintf(key, KEY_BYTES, "sink.%s.stream", sink);
    return key;
}

static const char *item_key(char *key, uint64_t id)
{
    (void)snprintf(key, KEY_BYTES, "quarantine.%" PRIu64 ".stream", id);
    return key;
}

int streams_sink_get(struct forward_db *db, const char *sink, struct ulid *stream, struct err *err)
{
    char key[KEY_BYTES];
    return stream_get(db, sink_key(key, sink), stream, err);
}

int streams_sink_put(struct forward_db *db, const char *sink, const struct ulid *stream,
                     struct err *err)
{
    char key[KEY_BYTES];
    return stream_put(db, sink_key(key, sink), stream, err);
}

int streams_item_get(struct forward_db *db, uint64_t quarantine_id, struct ulid *stream,
                     struct err *err)
{
    char key[KEY_BYTES];
    return stream_get(db, item_key(key, quarantine_id), stream, err);
}

int streams_item_put(struct forward_db *db, uint64_t quarantine_id, const struct ulid *stream,
                     struct err *err)
{
    char key[KEY_BYTES];
    return stream_put(db, item_key(key, quarantine_id), stream, err);
}

/* ---- what has been seen ---- */

/* The sink whose name comes next: a callback must not ask the database for more. */
struct next_sink {
    char after[CONFIG_SINK_NAME_MAX + 1];
    char name[CONFIG_SINK_NAME_MAX + 1]; /* "": none */
    struct sink_position position;
};

static bool on_sink(void *context, const char *name, const struct sink_position *position)
{
    struct next_sink *next = context;
    if (strcmp(name, next->after) <= 0) {
        return true;
    }
    (void)snprintf(next->name, sizeof next->name, "%s", name);
    next->position = *position;
    return false;
}

/* What comes from quarantine has its own bytes and its own stream. */
static bool on_batch(void *context, const struct frozen *frozen)
{
    uint64_t *seen = context;
    *seen = frozen->quarantine_id == 0 ? u64_max(*seen, frozen->last_lsn) : *seen;
    return true;
}

static int sink_seen(struct forward_db *db, const struct next_sink *sink, uint64_t *seen,
                     struct err *err)
{
    const struct sink_position *at = &sink->position;
    *seen = at->live_next > 0 ? at->live_next - 1 : 0;
    if (at->backlog_next < at->backlog_end) {
        *seen = u64_max(*seen, at->backlog_end - 1);
    }
    return forward_db_batches(db, sink->name, on_batch, seen, err);
}

struct asking {
    const char *data_dir;
    const struct lineage *lineage;
    struct lineage_witness *witness;
    struct err *err;
    int result; /* ERR_CORRUPT: see streams_witness */
};

/* Negative: the database failed. */
static int ask_sink(const struct asking *asking, struct forward_db *db,
                    const struct next_sink *sink, const char *what, int *result, struct err *why)
{
    const struct lineage *lineage = asking->lineage;
    struct ulid stream = lineage->node;
    uint64_t seen = 0;
    int r = streams_sink_get(db, sink->name, &stream, why);
    r = r < 0 ? r : sink_seen(db, sink, &seen, why);
    if (r < 0) {
        return r;
    }
    if (lineage->count == 0 && !lineage_has(lineage, &stream)) {
        *result = err_set(asking->err, ERR_CORRUPT,
                          "%s %s has sent records as another stream than the node's own, but "
                          "there is no DIR/" LINEAGE_FILE
                          ", which says from which LSN on: put it back from a backup",
                          what, sink->name);
    }
    /* What lies behind a cut that the lineage knows of is no news. */
    uint64_t cut = lineage_cut(lineage, &stream);
    lineage_witness_note(asking->witness, u64_min(seen, cut - 1), "%s %s", what, sink->name);
    return 0;
}

static int ask_sinks(const struct asking *asking, struct forward_db *db, const char *what,
                     int *result, struct err *why)
{
    struct next_sink next = {.after = ""};
    for (;;) { /* bound: the table's rows, each once */
        next.name[0] = 0;
        int r = forward_db_sinks(db, on_sink, &next, why);
        if (r < 0 || next.name[0] == 0) {
            return r;
        }
        r = ask_sink(asking, db, &next, what, result, why);
        if (r < 0) {
            return r;
        }
        memcpy(next.after, next.name, sizeof next.after);
    }
}

/* Another node's LSNs say nothing about this log; such a file is moved aside when it is opened to be written. */
static int is_of_node(struct forward_db *db, const struct ulid *node, bool *is_it, struct err *err)
{
    struct ulid found = {{0}};
    int r = stream_get(db, "node", &found, err);
    *is_it = r == 1 && memcmp(found.bytes, node->bytes, sizeof found.bytes) == 0;
    return r < 0 ? r : 0;
}

static int ask_file(const struct asking *asking, const char *path, const char *what)
{
    struct forward_db *db = NULL;
    struct err why = {0};
    int result = 0;
    int r = forward_db_open_read_only(&db, path, &why);
    if (r == 0) {
        bool is_ours = false;
        r = is_of_node(db, &asking->lineage->node, &is_ours, &why);
        r = is_ours ? ask_sinks(asking, db, what, &result, &why) : r;
        forward_db_close(db);
    }
    if (r < 0 && r != -ENOENT) {
        LOG(LOGLINE_WARNING, "lineage",
            "%s: %s; whether the log has lost records that were delivered is not looked for there",
            path, why.text);
    }
    return result;
}

static void on_job(void *context, const struct replay_job *job)
{
    struct asking *asking = context;
    char path[REPLAY_PATH_BYTES];
    char what[REPLAY_JOB_BYTES + 32];
    struct err ignored = {0};
    if (replay_job_path(path, asking->data_dir, job->name, ".sqlite", &ignored) < 0) {
        return;
    }
    (void)snprintf(what, sizeof what, "replay job %s to sink", job->name);
    int r = ask_file(asking, path, what);
    asking->result = r < 0 ? r : asking->result;
}

int streams_witness(const char *data_dir, const struct lineage *lineage,
                    struct lineage_witness *witness, struct err *err)
{
    struct asking asking = {
        .data_dir = data_dir, .lineage = lineage, .witness = witness, .err = err};
    struct err why = {0};
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/" FORWARD_DB_FILE, data_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s", data_dir);
    }
    asking.result = ask_file(&asking, path, "sink");
    if (replay_jobs(data_dir, on_job, &asking, &why) < 0) {
        LOG(LOGLINE_WARNING, "lineage", "replay jobs are not looked at: %s", why.text);
    }
    return asking.result;
}
