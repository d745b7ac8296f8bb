/* backup_files: files and the manifest of a backup. Private to backup.c and backup_restore.c. */
#ifndef STORE_BACKUP_FILES_H
#define STORE_BACKUP_FILES_H

#include <stdio.h>

#include "store/backup.h"
#include "store/digest.h"

#define BACKUP_PATH_MAX   4096u
#define BACKUP_NAME_MAX   256u
#define BACKUP_COPY_BYTES ((size_t)1 << 20)

struct backup_copy {
    uint8_t *buffer; /* BACKUP_COPY_BYTES */
    struct digest *digest;
    const struct backup_progress *progress;
    uint64_t done_bytes, all_bytes;
    struct backup_report *report;
};

void backup_copy_open(struct backup_copy *copy, const struct backup_progress *progress,
                      struct backup_report *report);
void backup_copy_close(struct backup_copy *copy);
void backup_copied(struct backup_copy *copy, uint64_t bytes);

/* DIR/NAME into path (BACKUP_PATH_MAX). -ENAMETOOLONG. */
int backup_path(char *path, const char *dir, const char *name, struct err *err) MUST_USE;
/* 0: DIR does not exist or is empty; -ENOTEMPTY with a text. */
int backup_check_new(const char *dir, struct err *err) MUST_USE;
/* Makes DIR (and DIR/log), or finds it empty. -ENOTEMPTY with a text. */
int backup_prepare_dir(const char *dir, struct err *err) MUST_USE;
int backup_sync_dir(const char *dir, struct err *err) MUST_USE;
/* The directory that names dir. */
int backup_sync_parent(const char *dir, struct err *err) MUST_USE;
/* Removes DIR that backup_prepare_dir has made, with the files in it and in DIR/log. Best effort. */
void backup_remove_dir(const char *dir);
/* Copies from to the new file to, synced; digest of the bytes. */
int backup_copy_file(struct backup_copy *copy, const char *from, const char *to, uint8_t *digest,
                     uint64_t *bytes, struct err *err) MUST_USE;
int backup_digest_file(struct backup_copy *copy, const char *path, uint8_t *digest, uint64_t *bytes,
                       struct err *err) MUST_USE;

/* One line of the manifest. */
struct backup_entry {
    uint8_t digest[DIGEST_BYTES];
    uint64_t bytes;
    char name
        [BACKUP_NAME_MAX]; /* relative, only letters, digits, '.', '-', '_' and at most one '/' */
};

void backup_entry_print(FILE *to, const struct backup_entry *entry);
/* False: no such line, or a name that leads out of the directory. Pure. */
bool backup_entry_parse(struct backup_entry *entry, const char *line);

#endif
