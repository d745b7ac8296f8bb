/*
 * backup: a consistent copy of a data directory, taken while a server writes it or not, and its way back.
 * For tools: blocking, main thread, needs no lock and no server.
 *
 * What is in it: the databases first (online backup API: they may be older than the log, never newer) and
 * DIR/origins (likewise: what is newer is read from the log), then the log, newest file first, so that what was begun after a file was copied is never there without
 * it: what the copy holds is a prefix of the log that ends in a whole batch. Files that never change again
 * (compacted) are linked where the file system can, else copied; a sealed raw file is copied, because its
 * footer is written again when damage is found in it; of a file that is being written its valid batches are
 * copied. Then DIR/lineage, which may be newer than the log, never older: an entry stands there before any of
 * its records. Last, the MANIFEST: a directory without one is no backup.
 *
 * What cannot be used (a segment with a damaged header, a catalog that is no database) does not keep the rest
 * from being saved: it is left out, told, and counted.
 *
 * MANIFEST, text, one line each: "sluice-backup 1"; "node <ULID>"; "taken_at <RFC 3339>"; per file
 * "file <XXH3-128, hex> <bytes> <name>"; "end <number of files>".
 */
#ifndef STORE_BACKUP_H
#define STORE_BACKUP_H

#include "core/base.h"
#include "core/err.h"

#define BACKUP_MANIFEST "MANIFEST"
/* The agent-run database, in a backup and (unless runs.db says otherwise) in a data directory. */
#define BACKUP_RUNS "runs.sqlite"

struct backup_report {
    uint64_t files;
    uint64_t linked;   /* of them */
    uint64_t bytes;    /* of all of them */
    uint64_t left_out; /* files that are not in the backup, because they cannot be used */
};

struct backup_progress {
    void (*on_bytes)(void *context, uint64_t done, uint64_t all); /* may be NULL */
    void (*on_problem)(void *context, const char *line);          /* likewise; per file left out */
    void *context;
};

struct backup_source {
    const char *data_dir;
    /* The agent-run database, which must be there; in the backup it is BACKUP_RUNS. NULL: that one in data_dir, if there is one. */
    const char *runs_db;
};

/* to must not exist or be empty. On failure what was copied stays, without a MANIFEST. */
int backup_make(const struct backup_source *source, const char *to,
                const struct backup_progress *progress, struct backup_report *report,
                struct err *err) MUST_USE;
/* data_dir must not exist or be empty. It says (lineage.h) that it was restored, so that its first start does not give what an
 * upstream has of the original's later records as names to other records. Every digest is checked while copying; ERR_CORRUPT names the file. A
 * restore that fails leaves nothing behind; one that is killed leaves data_dir.restoring. */
int backup_restore(const char *from, const char *data_dir, const struct backup_progress *progress,
                   struct backup_report *report, struct err *err) MUST_USE;

#endif
