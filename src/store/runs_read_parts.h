/*
 * runs_read_parts: what the files of runs_read share. Private to them.
 */
#ifndef STORE_RUNS_READ_PARTS_H
#define STORE_RUNS_READ_PARTS_H

#include "store/runs_read.h"

struct sqlite3;
struct sqlite3_stmt;

#define RUNS_READ_PIECE_BYTES (16u * 1024u)

#define RUNS_READ_COLUMNS                                                                          \
    "id,event_id,run_id,schema_version,created_at,updated_at,start_time,end_time,agent_name,"      \
    "agent_owner,job_type,status,product,product_family,platform,subdomain,website,"               \
    "website_section,item_name,items_discovered,items_succeeded,items_failed,items_skipped,"       \
    "duration_ms,input_summary,output_summary,source_ref,target_ref,error_summary,error_details,"  \
    "git_repo,git_branch,git_commit_hash,git_run_tag,git_commit_source,git_commit_author,"         \
    "git_commit_timestamp,host,environment,trigger_type,metrics_json,context_json,api_posted,"     \
    "api_posted_at,api_retry_count,insight_id,parent_run_id"

struct runs_reader {
    struct sqlite3 *db;
    struct sqlite3_stmt *get;
    struct sqlite3_stmt *git;
    struct runs_read_model model;
    uint64_t deadline_ns;
    int64_t
        schema_version; /* SQLite's counter of changes to the schema, when what follows was found */
    bool has_status_order; /* there is an index (status, created_at ...) */
    bool has_job_order;    /* likewise job_type */
    bool has_zones;        /* runs_zones.h */
    uint8_t piece[RUNS_READ_PIECE_BYTES];
    char url[RUNS_READ_URL_BYTES];
    char path[4096];
};

/* One answer on its way out. */
struct runs_answer {
    struct runs_reader *reader;
    struct buf out; /* in reader->piece */
    runs_put put;
    void *context;
    bool is_over; /* the asker has had enough */
};

/* ---- asking: runs_read.c ---- */

/* A failure of SQLite as text and code. */
int runs_read_error(struct runs_reader *reader, int code, const char *doing, struct err *err);
/* A question begins: its time is counted from here. */
void runs_read_begin(struct runs_reader *reader);
/* Likewise, of several statements that see the same state of the database. */
int runs_read_begin_all(struct runs_reader *reader, struct err *err) MUST_USE;
void runs_read_end_all(struct runs_reader *reader);
/* Which indexes and zones there are, where that may have changed: other tools drop and make them while the server runs. */
int runs_read_look(struct runs_reader *reader, struct err *err) MUST_USE;
int runs_read_prepare(struct runs_reader *reader, const char *sql, struct sqlite3_stmt **statement,
                      struct err *err) MUST_USE;
/* The text lives until the statement is reset. */
void runs_read_bind(struct sqlite3_stmt *statement, int index, struct slice text);
/* 1: row, 0: done. */
int runs_read_step(struct runs_reader *reader, struct sqlite3_stmt *statement,
                   struct err *err) MUST_USE;

/* ---- answering: runs_read_put.c ---- */

void runs_read_answer_open(struct runs_answer *answer, struct runs_reader *reader, runs_put put,
                           void *context);
/* There is room for so many bytes in answer->out, which is at most a piece. */
void runs_read_answer_room(struct runs_answer *answer, size_t bytes);
/* The last piece goes out. Returns result, or -ECANCELED where the asker has had enough. */
int runs_read_answer_end(struct runs_answer *answer, int result) MUST_USE;
/* As it is; shorter than a piece. */
void runs_read_put_text(struct runs_answer *answer, const char *text);
/* As a JSON string of any length. */
void runs_read_put_string(struct runs_answer *answer, struct slice text);
void runs_read_put_c_string(struct runs_answer *answer, const char *text);
/* A column as SQLite holds it, and a row of RUNS_READ_COLUMNS as an item. */
void runs_read_put_column(struct runs_answer *answer, struct sqlite3_stmt *row, int column);
void runs_read_put_item(struct runs_answer *answer, struct sqlite3_stmt *row);
/* Borrowed until the next step. */
struct slice runs_read_text(struct sqlite3_stmt *row, int column);

#endif
