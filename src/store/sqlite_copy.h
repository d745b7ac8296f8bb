/*
 * sqlite_copy: a consistent copy of a SQLite file that keeps its writers out as shortly as can be. Blocking, one thread; for tools and start-up.
 *
 * SQLite's own online backup begins again whenever another process commits, so beside a writer that never rests it ends only under one
 * read lock from the first page to the last. Here the file is copied without a lock first, and a digest of each 64 KiB kept; then a read lock is
 * taken, the file read once more, and what differs copied again: writers wait for one reading out of the page cache (some 0.4 s per GiB where
 * copying it takes 5), however busy they are. What was read without the lock may be torn; nothing of it stays that the lock did not confirm.
 *
 * Only for journal modes with a rollback journal, where a read lock means that the file itself is whole. With a WAL part of it is elsewhere:
 * there SQLite's backup does it, and readers hold up nobody.
 */
#ifndef STORE_SQLITE_COPY_H
#define STORE_SQLITE_COPY_H

#include "core/base.h"
#include "core/err.h"

struct sqlite3;

/* 1: it has a WAL. */
int sqlite_copy_has_wal(struct sqlite3 *db, struct err *err) MUST_USE;
/* from: an open connection without a transaction; to: an empty file, which is not synced. -EBUSY: somebody keeps it locked, or has changed
 * its journal mode meanwhile; -ENOSPC ...: of writing; what is in to then is nothing. */
int sqlite_copy_to(struct sqlite3 *from, int to, struct err *err) MUST_USE;
/* A connection to a copy that goes when it is closed, or with the process, however that ends: it lies beside path, the file of from, and
 * has no name once SQLite has opened it. What a process killed in between may leave is an empty file, which the next one
 * takes. */
#define SQLITE_COPY_SUFFIX ".copy.part"
int sqlite_copy_nameless(struct sqlite3 **copy, struct sqlite3 *from, const char *path,
                         struct err *err) MUST_USE;

#endif
