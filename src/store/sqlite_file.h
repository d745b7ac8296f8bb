/*
 * sqlite_file: whole SQLite files for tools: opened to be read, judged, copied (sqlite_backup_file is declared in catalog.h). Blocking.
 */
#ifndef STORE_SQLITE_FILE_H
#define STORE_SQLITE_FILE_H

#include "core/base.h"
#include "core/err.h"

struct sqlite3;

/* Where faults are told, one line each, beginning with the name of the file. */
struct sqlite_faults {
    const char *name;
    void (*on_fault)(void *context, const char *line);
    /* What is no fault, but good to know before it takes long. May be NULL. */
    void (*on_note)(void *context, const char *line);
    void *context;
    uint64_t *count;
};

/* Read-only; only where a killed writer left a transaction half way does SQLite need to write, to roll it back, as for any
 * reader. */
int sqlite_file_open(struct sqlite3 **db, const char *path, struct err *err) MUST_USE;
void sqlite_file_tell(const struct sqlite_faults *faults, const char *format, ...)
    PRINTF_LIKE(2, 3);
/* integrity_check. 1: it is so damaged that nothing else can be asked of it. Holds a read lock until it is done. */
int sqlite_file_check(struct sqlite3 *db, const struct sqlite_faults *faults,
                      struct err *err) MUST_USE;

#endif
