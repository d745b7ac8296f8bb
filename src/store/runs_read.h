/*
 * runs_read: questions to the agent-run database: a connection per reader (query thread, tool) that never writes, prepared
 * statements, short transactions, never longer than one answer. Answers are JSON as api.md §2.3 has them, put piece by piece, so that a page of
 * any size is bounded by the reader's buffer. Blocking; never a shard. One thread at a time.
 *
 * A read holds SQLite's SHARED lock, which keeps the writer from committing: whoever asks must take the pieces as fast as memory
 * takes them, and a question that takes longer than RUNS_READ_NS_MAX is given up (-ETIMEDOUT). The other way round a commit keeps
 * readers out for its milliseconds: they try again in steps of 100 us, for as long (-EBUSY).
 *
 * WHICH INDEX. The list is ordered by created_at, newest first, rows of the same time in the order of their ids. An index that ends
 * in created_at (agent_name, agent_name + status, created_at itself; status or job_type if somebody added such a one) is
 * walked in that order and stops at the limit. A filter without one (status, job_type, start_time) is counted first, up to
 * RUNS_SORT_ROWS_MAX entries of its index: a rare value is taken by its own index and sorted; a frequent one is
 * met soon enough on the walk. Neither reads the table from end to end for an answer.
 */
#ifndef STORE_RUNS_READ_H
#define STORE_RUNS_READ_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"

#define RUNS_READ_NS_MAX   (3 * NS_S)
#define RUNS_SORT_ROWS_MAX 4000u

struct runs_reader;

/* What the reader must know of the model, which this room does not: the composition passes model/run.h and model/json_scan.h. All
 * pure. */
struct runs_read_model {
    /* The URL and its bytes; 0: none. out has RUNS_READ_URL_BYTES. */
    size_t (*repo_url)(char *out, struct slice git_repo);
    size_t (*commit_url)(char *out, struct slice git_repo, struct slice commit_hash);
    /* 0: one valid JSON text; else why not. */
    int (*json_check)(const uint8_t *data, size_t bytes, uint64_t *offset, const char **why);
};
#define RUNS_READ_URL_BYTES 4096u

/* model is copied. -ENOENT: there is no such file. */
int runs_reader_open(struct runs_reader **reader, const char *path,
                     const struct runs_read_model *model, struct err *err) MUST_USE;
void runs_reader_close(struct runs_reader *reader); /* may be NULL */

/* Empty slices: not asked. Values are as the API judged them (status normalised, times checked). Times are compared as texts,
 * as the dialect always did. */
struct runs_filter {
    struct slice agent_name, status, job_type;
    struct slice created_before, created_after, start_time_from, start_time_to;
    uint32_t limit; /* 1..1000 */
    uint64_t offset;
};

/* Pieces of an answer; false: the asker has had enough, and the question ends with -ECANCELED. */
typedef bool (*runs_put)(void *context, struct slice piece);

/* A failure of any of these: -EBUSY, -ETIMEDOUT, -ECANCELED, ERR_CORRUPT, -EIO; what was put before is not to be
 * used. */

/* A bare array of items, 47 columns in order, then commit_url and repo_url. */
int runs_list(struct runs_reader *reader, const struct runs_filter *filter, runs_put put,
              void *context, struct err *err) MUST_USE;
/* 1: put one item; 0: no such run. */
int runs_get(struct runs_reader *reader, struct slice event_id, runs_put put, void *context,
             struct err *err) MUST_USE;
/* git_repo and git_commit_hash of a run, NUL-terminated texts cut to room (a longer one makes no URL anyway). 1, 0: no such run. A NULL
 * column is "". */
int runs_git(struct runs_reader *reader, struct slice event_id, char *repo, char *hash, size_t room,
             struct err *err) MUST_USE;
/* {"agent_names":[..],"job_types":[..],"counts":{..}} */
int runs_metadata(struct runs_reader *reader, runs_put put, void *context,
                  struct err *err) MUST_USE;
/* {"total_runs","agents":{..},"recent_24h","performance":{"db_path","journal_mode"}}; now: RFC 3339 text of the time. */
int runs_metrics(struct runs_reader *reader, const char *now, runs_put put, void *context,
                 struct err *err) MUST_USE;
/* Can the database be read? Its journal mode in upper case ("DELETE"), NUL-terminated. */
int runs_health(struct runs_reader *reader, char *journal_mode, size_t room,
                struct err *err) MUST_USE;
/* EXPLAIN QUERY PLAN of the list query for a filter, one step a line, for tests. */
int runs_explain(struct runs_reader *reader, const struct runs_filter *filter, struct buf *out,
                 struct err *err) MUST_USE;

#endif
