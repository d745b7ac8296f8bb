/*
 * catalog: DIR/catalog.sqlite, a view of the log for people and tools: which segments there are,
 * what is in them, which services wrote. Never the truth: deleted or damaged, it is rebuilt at
 * start from the files; newer than we know, the start is refused with a text.
 *
 * One agent (ROLE_CATALOG) owns the one writing connection (WAL, synchronous NORMAL, checkpoints
 * itself). Its whole work is to make the tables equal to the current log_view: at each new
 * generation the difference is applied in one transaction together with applied_lsn and
 * applied_generation, so a crash costs only doing it again. A slow SQLite never holds anybody: who
 * writes the log does not wait here.
 *
 * Schema (user_version CATALOG_VERSION; one row each in meta and per segment file):
 *   meta(key, value)   node, applied_lsn (last LSN of the newest sealed segment), generation
 *   segments(id, state, file, stored_bytes, raw_bytes, payload_bytes, first_lsn, last_lsn, records, kinds,
 *            time_min, time_max, received_min, received_max (RFC 3339), damaged, changed_at)
 *   cursors(name, lsn, updated_at)   where each reader of the log stands
 */
#ifndef STORE_CATALOG_H
#define STORE_CATALOG_H

#include "core/agent.h"
#include "core/park.h"
#include "store/log_view.h"

#define CATALOG_FILE    "catalog.sqlite"
#define CATALOG_VERSION 1

struct catalog;

struct catalog_options {
    const char *data_dir;
    struct log_views *views;
    struct park *park; /* its own; woken by who publishes a view */
    struct ulid node;
    uint64_t last_lsn; /* of the log at start: an applied_lsn beyond it is a witness of loss */
};

/* What the start found. */
enum catalog_found {
    CATALOG_GOOD = 0,
    CATALOG_MADE,    /* there was none */
    CATALOG_REBUILT, /* damaged or another node's: moved to catalog.sqlite.damaged, made again */
    CATALOG_MIGRATED,
    CATALOG_BEYOND, /* good, but it has seen LSNs that the log does not hold any more; who asks catalog_seen has said so */
};

/* Opens (quick_check), migrates, or makes it again. ERR_VERSION: made by a newer Sluice. */
int catalog_open(struct catalog **catalog, const struct catalog_options *options,
                 enum catalog_found *found, struct err *err) MUST_USE;
/* Applies the current view now; progress (may be NULL) is called per segment. */
int catalog_apply(struct catalog *catalog, void (*progress)(void *context, size_t done, size_t all),
                  void *context, struct err *err) MUST_USE;
/* Of a catalog that nobody has open: how far into the log it has seen; 0: there is none, it cannot be read or is another
 * node's. Changes nothing. */
uint64_t catalog_seen(const char *data_dir, const struct ulid *node);
int catalog_duty(void *catalog);
void catalog_stop(struct catalog *catalog); /* any thread */
void catalog_close(struct catalog *catalog);

/* For tools: integrity_check and comparison with the files; one line per fault. */
int catalog_verify(const char *data_dir, struct log_view *view,
                   void (*on_fault)(void *context, const char *line), void *context,
                   uint64_t *faults, struct err *err) MUST_USE;
/* A consistent copy of the database at from into the new file to, synced. Works for any SQLite file, while others write it, who wait for
 * moments only (sqlite_copy.h). */
int sqlite_backup_file(const char *from, const char *to, struct err *err) MUST_USE;

#endif
