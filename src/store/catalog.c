/*
 * catalog: see catalog.h. Owned by the catalog's thread (start-up: by main, before it runs).
 *
 * Happy path: a new generation of the view; the rows that differ are written in one transaction; sleep
 * until the next. What goes wrong: SQLite fails (disk full, somebody holds a lock for too long): the
 * transaction is rolled back, said once, and tried again after RETRY_NS; nothing else waits for it.
 */
#include "store/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "store/catalog_schema.h"
#include "store/segment.h"
#include "store/sqlite_file.h"

#define RETRY_NS (5 * NS_S)
#define SLEEP_NS (NS_S / 4)

struct catalog {
    struct catalog_options options;
    struct sqlite3 *db;
    sqlite3_stmt *put;
    sqlite3_stmt *drop;
    sqlite3_stmt *all;
    uint64_t applied_generation;
    uint64_t retry_at_ns; /* 0: nothing to try again */
    bool is_failing;      /* said */
    _Atomic bool stop;
};

static const char put_sql[] =
    "INSERT OR REPLACE INTO segments(id, state, file, stored_bytes, raw_bytes, payload_bytes, "
    "first_lsn,"
    " last_lsn, records, kinds, time_min, time_max, received_min, received_max, damaged, "
    "changed_at)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
static const char drop_sql[] = "DELETE FROM segments WHERE id = ?1";
static const char all_sql[] = "SELECT id, state, stored_bytes, first_lsn FROM segments ORDER BY id";

static const char *state_name(enum view_state state)
{
    return state == VIEW_COMPACTED ? "compacted" : state == VIEW_SEALED ? "sealed" : "active";
}

/* ---- one row ---- */

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    (void)sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
}

static void bind_time(sqlite3_stmt *statement, int at, int64_t ns)
{
    char text[CLOCK_RFC3339_BYTES + 1];
    text[clock_rfc3339(text, ns, 6)] = 0;
    bind_text(statement, at, text);
}

static void bind_kinds(sqlite3_stmt *statement, int at, uint32_t kinds)
{
    char text[256];
    struct buf names;
    buf_init(&names, text, sizeof text - 1);
    for (unsigned kind = 1; kind <= RECORD_KIND_MAX; kind++) {
        const char *name = record_kind_name((enum record_kind)kind);
        if ((kinds & 1u << kind) != 0 && name != NULL) {
            buf_printf(&names, "%s%s", names.bytes > 0 ? "," : "", name);
        }
    }
    text[names.bytes] = 0;
    bind_text(statement, at, text);
}

static void bind_footer(sqlite3_stmt *statement, const struct segment_footer *footer)
{
    (void)sqlite3_bind_int64(statement, 5, (int64_t)footer->raw_bytes);
    (void)sqlite3_bind_int64(statement, 6, (int64_t)footer->payload_bytes);
    (void)sqlite3_bind_int64(statement, 8, (int64_t)footer->last_lsn);
    (void)sqlite3_bind_int64(statement, 9, (int64_t)footer->record_count);
    bind_kinds(statement, 10, footer->kinds);
    if (footer->record_count > 0) {
        bind_time(statement, 11, footer->time_min_ns);
        bind_time(statement, 12, footer->time_max_ns);
    }
    if (footer->first_seq != 0) {
        bind_time(statement, 13, footer->built_min_ns);
        bind_time(statement, 14, footer->built_max_ns);
    }
}

static int step_done(struct catalog *catalog, sqlite3_stmt *statement, struct err *err)
{
    int code = sqlite3_step(statement);
    int r = code == SQLITE_DONE ? 0 : catalog_sql_error(catalog->db, code, "write segments", err);
    (void)sqlite3_reset(statement);
    (void)sqlite3_clear_bindings(statement);
    return r;
}

static int put_row(struct catalog *catalog, const struct view_segment *segment, struct err *err)
{
    sqlite3_stmt *put = catalog->put;
    char name[SEGMENT_NAME_BYTES];
    if (segment->state == VIEW_COMPACTED) {
        compacted_name(name, segment->id);
    } else {
        segment_name(name, segment->id);
    }
    (void)sqlite3_bind_int64(put, 1, (int64_t)segment->id);
    bind_text(put, 2, state_name(segment->state));
    bind_text(put, 3, name);
    (void)sqlite3_bind_int64(put, 4, (int64_t)segment->stored_bytes);
    (void)sqlite3_bind_int64(put, 7, (int64_t)segment->footer.first_lsn);
    if (segment->state != VIEW_ACTIVE) {
        bind_footer(put, &segment->footer);
    }
    bool is_damaged = (segment->footer.flags & SEALED_DAMAGED) != 0;
    (void)sqlite3_bind_int64(put, 15, segment->state != VIEW_ACTIVE && is_damaged ? 1 : 0);
    bind_time(put, 16, clock_real_ns());
    return step_done(catalog, put, err);
}

static int drop_row(struct catalog *catalog, uint64_t id, struct err *err)
{
    (void)sqlite3_bind_int64(catalog->drop, 1, (int64_t)id);
    return step_done(catalog, catalog->drop, err);
}

/* ---- making the table equal to the view ---- */

/* What the table says of one segment. */
struct row {
    uint64_t id;
    uint64_t stored_bytes;
    uint64_t first_lsn; /* 0 while an active one has no batch */
    char state[16];
};

static int next_row(struct catalog *catalog, struct row *row, struct err *err)
{
    int code = sqlite3_step(catalog->all);
    if (code == SQLITE_DONE) {
        row->id = UINT64_MAX;
        return 0;
    }
    if (code != SQLITE_ROW) {
        return catalog_sql_error(catalog->db, code, "read segments", err);
    }
    const unsigned char *state = sqlite3_column_text(catalog->all, 1);
    row->id = (uint64_t)sqlite3_column_int64(catalog->all, 0);
    row->stored_bytes = (uint64_t)sqlite3_column_int64(catalog->all, 2);
    row->first_lsn = (uint64_t)sqlite3_column_int64(catalog->all, 3);
    (void)snprintf(row->state, sizeof row->state, "%s", state != NULL ? (const char *)state : "");
    return 0;
}

static bool row_is_right(const struct row *row, const struct view_segment *segment)
{
    return row->stored_bytes == segment->stored_bytes &&
           row->first_lsn == segment->footer.first_lsn &&
           strcmp(row->state, state_name(segment->state)) == 0;
}

/* What has to be written: collected before anything is, because a statement that walks a table sees
 * changes made meanwhile or not, as SQLite likes. */
struct changes {
    uint64_t *gone; /* ids of rows without a file */
    size_t gone_count;
    size_t gone_room;
    bool *is_wrong; /* by position in the view */
    size_t wrong_count;
};

static void add_gone(struct changes *changes, uint64_t id)
{
    if (changes->gone_count == changes->gone_room) {
        size_t room = changes->gone_room == 0 ? 64 : 2 * changes->gone_room;
        uint64_t *larger = mem_alloc_array(room, sizeof *larger);
        if (changes->gone_count > 0) {
            memcpy(larger, changes->gone, changes->gone_count * sizeof *larger);
        }
        mem_free(changes->gone);
        changes->gone = larger;
        changes->gone_room = room;
    }
    changes->gone[changes->gone_count++] = id;
}

/* Two lists in the order of their ids, side by side. */
static int find_changes(struct catalog *catalog, const struct log_view *view,
                        struct changes *changes, struct err *err)
{
    struct row row = {0};
    size_t at = 0;
    int r = next_row(catalog, &row, err);
    while (r == 0 && (at < view->count || row.id != UINT64_MAX)) { /* bound: both lists */
        uint64_t id = at < view->count ? view->segments[at]->id : UINT64_MAX;
        if (row.id < id) {
            add_gone(changes, row.id);
        } else {
            bool is_wrong = row.id != id || !row_is_right(&row, view->segments[at]);
            changes->is_wrong[at++] = is_wrong;
            changes->wrong_count += is_wrong ? 1 : 0;
        }
        if (row.id <= id) {
            r = next_row(catalog, &row, err);
        }
    }
    (void)sqlite3_reset(catalog->all);
    return r;
}

struct apply {
    struct catalog *catalog;
    const struct log_view *view;
    void (*progress)(void *context, size_t done, size_t all);
    void *context;
};

static int write_changes(const struct apply *apply, const struct changes *changes, struct err *err)
{
    int r = 0;
    size_t done = 0;
    for (size_t i = 0; r == 0 && i < changes->gone_count; i++) {
        r = drop_row(apply->catalog, changes->gone[i], err);
    }
    for (size_t i = 0; r == 0 && i < apply->view->count; i++) {
        if (!changes->is_wrong[i]) {
            continue;
        }
        r = put_row(apply->catalog, apply->view->segments[i], err);
        if (apply->progress != NULL) {
            apply->progress(apply->context, ++done, changes->wrong_count);
        }
    }
    return r;
}

static int apply_rows(const struct apply *apply, struct err *err)
{
    struct changes changes = {.is_wrong = mem_alloc(apply->view->count + 1)};
    int r = find_changes(apply->catalog, apply->view, &changes, err);
    r = r == 0 ? write_changes(apply, &changes, err) : r;
    mem_free(changes.gone);
    mem_free(changes.is_wrong);
    return r;
}

static uint64_t view_last_lsn(const struct log_view *view)
{
    for (size_t i = view->count; i > 0; i--) {
        if (view->segments[i - 1]->state != VIEW_ACTIVE) {
            return view->segments[i - 1]->footer.last_lsn;
        }
    }
    return 0;
}

static int apply_view(const struct apply *apply, struct err *err)
{
    struct sqlite3 *db = apply->catalog->db;
    char text[32];
    int r = catalog_sql_run(db, "BEGIN IMMEDIATE", err);
    if (r < 0) {
        return r;
    }
    r = apply_rows(apply, err);
    (void)snprintf(text, sizeof text, "%" PRIu64, view_last_lsn(apply->view));
    r = r == 0 ? catalog_meta_put(db, "applied_lsn", text, err) : r;
    (void)snprintf(text, sizeof text, "%" PRIu64, apply->view->generation);
    r = r == 0 ? catalog_meta_put(db, "generation", text, err) : r;
    r = r == 0 ? catalog_sql_run(db, "COMMIT", err) : r;
    if (r < 0) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return r;
}

int catalog_apply(struct catalog *catalog, void (*progress)(void *context, size_t done, size_t all),
                  void *context, struct err *err)
{
    struct log_view *view = log_view_take(catalog->options.views);
    struct apply apply = {catalog, view, progress, context};
    int r = 0;
    if (view->generation != catalog->applied_generation) {
        r = apply_view(&apply, err);
        catalog->applied_generation = r == 0 ? view->generation : catalog->applied_generation;
    }
    log_view_give(catalog->options.views, view);
    return r < 0 ? err_wrap(err, r, "%s", CATALOG_FILE) : 0;
}

/* ---- the agent ---- */

static void apply_and_say(struct catalog *catalog, uint64_t now_ns)
{
    struct err err = {0};
    if (now_ns < catalog->retry_at_ns) {
        return;
    }
    int r = catalog_apply(catalog, NULL, NULL, &err);
    catalog->retry_at_ns = r < 0 ? now_ns + RETRY_NS : 0;
    if (r < 0 && !catalog->is_failing) {
        LOG(LOGLINE_WARNING, "catalog",
            "%s; the log is not affected, the catalog follows when it can be written", err.text);
    }
    catalog->is_failing = r < 0;
}

int catalog_duty(void *context)
{
    struct catalog *catalog = context;
    /* relaxed: the flag is the whole message. */
    if (atomic_load_explicit(&catalog->stop, memory_order_relaxed)) {
        return 1;
    }
    apply_and_say(catalog, clock_mono_ns());
    struct park *park = catalog->options.park;
    park_prepare(park, PARK_ANY);
    if (!atomic_load_explicit(&catalog->stop, memory_order_relaxed)) {
        /* A view published just now is seen a quarter of a second later at worst: nobody waits for it. */
        struct pollfd poll_fd = {.fd = park->fd, .events = POLLIN};
        struct timespec timeout = {.tv_nsec = (long)SLEEP_NS};
        if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
            park_drain(park);
        }
    }
    park_cancel(park);
    return 0;
}

void catalog_stop(struct catalog *catalog)
{
    atomic_store_explicit(&catalog->stop, true,
                          memory_order_relaxed); /* relaxed: see catalog_duty */
    (void)park_wake(catalog->options.park, true);
}

/* ---- opening and closing ---- */

static int prepare(struct catalog *catalog, sqlite3_stmt **statement, const char *sql,
                   struct err *err)
{
    int code = sqlite3_prepare_v3(catalog->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    return code == SQLITE_OK ? 0 : catalog_sql_error(catalog->db, code, sql, err);
}

/* A position may be older than the truth, never newer (design §1). */
static int look_beyond(struct catalog *catalog, enum catalog_found *found, struct err *err)
{
    char text[32] = "0";
    int r = catalog_meta_get(catalog->db, "applied_lsn", text, sizeof text, err);
    if (r == 1 && strtoull(text, NULL, 10) > catalog->options.last_lsn) {
        *found = CATALOG_BEYOND;
    }
    return r < 0 ? r : 0;
}

uint64_t catalog_seen(const char *data_dir, const struct ulid *node)
{
    char path[4096];
    char mine[ULID_TEXT_BYTES + 1] = "";
    char text[64] = "";
    struct sqlite3 *db = NULL;
    struct err ignored = {0};
    uint64_t lsn = 0;
    int n = snprintf(path, sizeof path, "%s/" CATALOG_FILE, data_dir);
    if (n < 0 || (size_t)n >= sizeof path || access(path, F_OK) < 0 ||
        sqlite_file_open(&db, path, &ignored) < 0) {
        return 0;
    }
    ulid_format(mine, node);
    bool is_ours =
        catalog_meta_get(db, "node", text, sizeof text, &ignored) == 1 && strcmp(text, mine) == 0;
    if (is_ours && catalog_meta_get(db, "applied_lsn", text, sizeof text, &ignored) == 1) {
        lsn = strtoull(text, NULL, 10);
    }
    (void)sqlite3_close(db);
    return lsn;
}

int catalog_open(struct catalog **out, const struct catalog_options *options,
                 enum catalog_found *found, struct err *err)
{
    struct catalog *catalog = mem_alloc(sizeof *catalog);
    catalog->options = *options;
    int r = catalog_schema_open(&catalog->db, options, found, err);
    r = r == 0 ? prepare(catalog, &catalog->put, put_sql, err) : r;
    r = r == 0 ? prepare(catalog, &catalog->drop, drop_sql, err) : r;
    r = r == 0 ? prepare(catalog, &catalog->all, all_sql, err) : r;
    r = r == 0 ? look_beyond(catalog, found, err) : r;
    if (r < 0) {
        catalog_close(catalog);
        return r;
    }
    *out = catalog;
    return 0;
}

void catalog_close(struct catalog *catalog)
{
    if (catalog == NULL) {
        return;
    }
    (void)sqlite3_finalize(catalog->put);
    (void)sqlite3_finalize(catalog->drop);
    (void)sqlite3_finalize(catalog->all);
    (void)sqlite3_close(catalog->db);
    mem_free(catalog);
}
