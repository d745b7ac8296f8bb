#include "store/runs_zones.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "store/runs_read_parts.h"
#include "store/runs_schema.h"

#define ZONE "10" /* ids of a zone, as a power of two */

static const char table_sql[] =
    "CREATE TABLE IF NOT EXISTS sluice_run_zones(zone INTEGER PRIMARY KEY, "
    "start_min TEXT NOT NULL, start_max TEXT NOT NULL, "
    "created_min TEXT NOT NULL, created_max TEXT NOT NULL);"
    "DELETE FROM sluice_run_zones;"
    "INSERT INTO sluice_run_zones SELECT id >> " ZONE ", min(start_time), max(start_time), "
    "min(created_at), max(created_at) FROM agent_runs GROUP BY 1";

/* The two-argument min and max are of SQLite's core, so a file with these triggers can be written by any tool. */
#define WIDEN_KNOWN                                                                                \
    " ON CONFLICT(zone) DO UPDATE SET "                                                            \
    "start_min = min(start_min, excluded.start_min), "                                             \
    "start_max = max(start_max, excluded.start_max), "                                             \
    "created_min = min(created_min, excluded.created_min), "                                       \
    "created_max = max(created_max, excluded.created_max)"
#define WIDEN                                                                                      \
    "INSERT INTO sluice_run_zones VALUES(new.id >> " ZONE ", new.start_time, new.start_time, "     \
    "new.created_at, new.created_at)" WIDEN_KNOWN ";"
static const char triggers_sql[] =
    "DROP TRIGGER IF EXISTS sluice_run_zones_insert;"
    "DROP TRIGGER IF EXISTS sluice_run_zones_update;"
    "CREATE TRIGGER sluice_run_zones_insert AFTER INSERT ON agent_runs BEGIN " WIDEN " END;"
    "CREATE TRIGGER sluice_run_zones_update AFTER UPDATE OF id, start_time, "
    "created_at "
    "ON agent_runs BEGIN " WIDEN " END";

const char runs_zones_widen[] =
    "INSERT INTO sluice_run_zones SELECT id >> " ZONE ", min(start_time), max(start_time), "
    "min(created_at), max(created_at) FROM agent_runs WHERE id >= ?1 GROUP BY id >> " ZONE
        WIDEN_KNOWN;

int runs_zones_spare(struct sqlite3 *db, struct err *err)
{
    int64_t others = 0;
    int is_on = 0;
    int r = runs_sql_number(
        db,
        "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name NOT LIKE 'sluice_%'",
        &others, err);
    if (r < 0) {
        return r;
    }
    int must_be_on = others != 0 ? 1 : 0;
    int code = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, must_be_on, &is_on);
    return code == SQLITE_OK && is_on == must_be_on
               ? 0
               : runs_sql_error(db, code, "do without triggers", err);
}

int runs_zones_make(struct sqlite3 *db, struct err *err)
{
    static const char find[] =
        "SELECT count(*) FROM sqlite_master WHERE name IN ('sluice_run_zones', "
        "'sluice_run_zones_insert', 'sluice_run_zones_update')";
    int64_t count = 0;
    int r = runs_sql_number(db, find, &count, err);
    if (r < 0 ||
        count == 3) { /* less: somebody has dropped one, and the rest is not to be trusted */
        return r;
    }
    r = runs_sql_run(db, "BEGIN IMMEDIATE", err);
    if (r == 0) {
        r = runs_sql_run(db, table_sql, err);
        r = r == 0 ? runs_sql_run(db, triggers_sql, err) : r;
        r = r == 0 ? runs_sql_run(db, "COMMIT", err) : r;
    }
    if (r < 0) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return err_wrap(err, r, "make the zones of start times");
    }
    return 0;
}

/* False: no text, or too long for a time. */
static bool copy_time(char *to, sqlite3_stmt *row, int column)
{
    struct slice text = runs_read_text(row, column);
    if (sqlite3_column_type(row, column) != SQLITE_TEXT || text.bytes >= RUNS_TIME_ROOM ||
        memchr(text.data, 0, text.bytes) != NULL) {
        return false;
    }
    memcpy(to, text.data, text.bytes);
    to[text.bytes] = 0;
    return true;
}

/* A zone, of those with the window in the order of their created_max, newest first. *neighbour is the zone met before. */
static void add_zone(struct runs_stretches *stretches, const struct runs_stretch *zone,
                     bool is_neighbour)
{
    struct runs_stretch *oldest =
        stretches->count == 0 ? NULL : &stretches->all[stretches->count - 1];
    bool joins = oldest != NULL && (is_neighbour || stretches->count == RUNS_STRETCHES_MAX ||
                                    strcmp(zone->last, oldest->first) >= 0);
    if (!joins) {
        stretches->all[stretches->count++] = *zone;
    } else if (strcmp(zone->first, oldest->first) < 0) {
        memcpy(oldest->first, zone->first, sizeof oldest->first);
    }
}

static int take_zones(struct runs_reader *reader, sqlite3_stmt *row,
                      struct runs_stretches *stretches, struct err *err)
{
    int64_t before = -2;
    int result = runs_read_step(reader, row, err);
    while (result == 1) { /* bound: the zones */
        struct runs_stretch zone;
        int64_t id = sqlite3_column_int64(row, 0);
        if (!copy_time(zone.first, row, 1) || !copy_time(zone.last, row, 2)) {
            return 0;
        }
        add_zone(stretches, &zone, id == before - 1 || id == before + 1);
        before = id;
        result = runs_read_step(reader, row, err);
    }
    return result < 0 ? result : 1;
}

int runs_zones_find(struct runs_reader *reader, struct slice start_from, struct slice start_to,
                    struct runs_stretches *stretches, struct err *err)
{
    sqlite3_stmt *row = NULL;
    stretches->count = 0;
    if (!reader->has_zones) {
        return 0;
    }
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "SELECT zone,created_min,created_max FROM sluice_run_zones%s%s%s%s "
                   "ORDER BY created_max DESC",
                   start_from.bytes + start_to.bytes != 0 ? " WHERE " : "",
                   start_from.bytes != 0 ? "start_max>=?1" : "",
                   start_from.bytes != 0 && start_to.bytes != 0 ? " AND " : "",
                   start_to.bytes != 0 ? "start_min<=?2" : "");
    int result = runs_read_prepare(reader, sql, &row, err);
    if (result == 0 && start_from.bytes != 0) {
        runs_read_bind(row, 1, start_from);
    }
    if (result == 0 && start_to.bytes != 0) {
        runs_read_bind(row, 2, start_to);
    }
    result = result < 0 ? result : take_zones(reader, row, stretches, err);
    (void)sqlite3_finalize(row);
    return result;
}
