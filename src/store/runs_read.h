/*
 * runs_read: questions to the agent-run database: a read-only connection per reader (query thread, tool), prepared statements, short
 * transactions, never longer than one answer. Answers are JSON as api.md §2.3 has them, put piece by piece, so that a page of any size is bounded
 * by the reader's buffer. Blocking; never a shard.
 */
#ifndef STORE_RUNS_READ_H
#define STORE_RUNS_READ_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"

struct runs_reader;

int runs_reader_open(struct runs_reader **reader, const char *path,
                     struct err *err) MUST_USE; /* -ENOENT */
void runs_reader_close(struct runs_reader *reader);

/* Empty slices: not asked. Values are as the API judged them (status normalised, times checked). */
struct runs_filter {
    struct slice agent_name, status, job_type;
    struct slice created_before, created_after, start_time_from, start_time_to;
    uint32_t limit; /* 1..1000 */
    uint64_t offset;
};

/* Pieces of an answer; false: the asker has gone. */
typedef bool (*runs_put)(void *context, struct slice piece);

/* A bare array of items, 47 columns in order, then commit_url and repo_url. */
int runs_list(struct runs_reader *reader, const struct runs_filter *filter, runs_put put,
              void *context, struct err *err) MUST_USE;
/* 1: put one item; 0: no such run. */
int runs_get(struct runs_reader *reader, struct slice event_id, runs_put put, void *context,
             struct err *err) MUST_USE;
/* git_repo and git_commit_hash of a run, texts cut to room. 1, 0: no such run. A NULL column is "". */
int runs_git(struct runs_reader *reader, struct slice event_id, char *repo, char *hash, size_t room,
             struct err *err) MUST_USE;
/* {"agent_names":[..],"job_types":[..],"counts":{..}} */
int runs_metadata(struct runs_reader *reader, runs_put put, void *context,
                  struct err *err) MUST_USE;
/* {"total_runs","agents":{..},"recent_24h","performance":{"db_path","journal_mode"}}; now: RFC 3339 text of the time. */
int runs_metrics(struct runs_reader *reader, const char *now, runs_put put, void *context,
                 struct err *err) MUST_USE;
/* EXPLAIN QUERY PLAN of the list query for a filter, for tests. */
int runs_explain(struct runs_reader *reader, const struct runs_filter *filter, struct buf *out,
                 struct err *err) MUST_USE;

#endif
