/*
 * runs_zones: which stretches of created_at can hold a start_time. The list is ordered by created_at; a window of start_time that
 * many rows meet, all of them old, would have it walk over everything newer first. So a table of ours (sluice_run_zones) keeps, for each
 * 1024 ids, the smallest and largest start_time and created_at (a zone map), and the walk takes only the stretches that the
 * window meets. Triggers keep it, so what another tool writes to the file counts too; a deleted or changed row leaves its zone wider than
 * need be, which costs time and no truth.
 */
#ifndef STORE_RUNS_ZONES_H
#define STORE_RUNS_ZONES_H

#include "core/base.h"
#include "core/err.h"

struct sqlite3;
struct runs_reader;

/* More are made one with the oldest. */
#define RUNS_STRETCHES_MAX 16u
#define RUNS_TIME_ROOM     64u

/* created_at from first to last, both included, compared as texts. NUL-terminated. */
struct runs_stretch {
    char first[RUNS_TIME_ROOM];
    char last[RUNS_TIME_ROOM];
};
/* Newest first, no two overlap. */
struct runs_stretches {
    struct runs_stretch all[RUNS_STRETCHES_MAX];
    unsigned count;
};

/* The writer, at a start: the table, filled, and its triggers, where they are not there. */
int runs_zones_make(struct sqlite3 *db, struct err *err) MUST_USE;

/* The writer's connection does without triggers, unless there are some of somebody else's, which is asked again when somebody has written: with
 * one a row costs twice as much, because SQLite keeps a journal of every statement that may fail half-way. It widens the zones of what it
 * has created, once in each transaction, by runs_zones_widen: of ids from ?1 on. */
int runs_zones_spare(struct sqlite3 *db, struct err *err) MUST_USE;
extern const char runs_zones_widen[];

/* A reader, inside its transaction. Empty slices: no limit. 1: every row whose start_time is in the window lies in one of the
 * stretches; 0: nothing is known (a time longer than any clock's, or a file without the table). */
int runs_zones_find(struct runs_reader *reader, struct slice start_from, struct slice start_to,
                    struct runs_stretches *stretches, struct err *err) MUST_USE;

#endif
