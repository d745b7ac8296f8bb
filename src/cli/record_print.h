/*
 * record_print: a record on standard output: as the JSON line of `sluice dump`, as a line for people, or as
 * CSV (RFC 4180). One owner; fails by ferror(out).
 */
#ifndef CLI_RECORD_PRINT_H
#define CLI_RECORD_PRINT_H

#include <stdio.h>

#include "store/scan.h"

enum print_form {
    /* {"lsn","id","kind","received_at","record":{...as sent}}; before the record "origin":{"node","lsn"} where
     * another Sluice sent it. */
    PRINT_NDJSON = 1,
    PRINT_TEXT, /* time level service message, coloured by level where asked */
    PRINT_CSV,  /* lsn,id,kind,received_at,timestamp,severity,service,name,message,record */
};

struct printer {
    FILE *out;
    enum print_form form;
    bool has_colours;
    uint8_t *scratch; /* LOOKUP_SCRATCH_BYTES */
};

/* What a client sent goes to a terminal: control characters (escape sequences among them) are shown, not
 * obeyed. */
void print_visible(FILE *out, struct slice text, bool keeps_tabs);
void printer_open(struct printer *printer, FILE *out, enum print_form form, bool has_colours);
void printer_close(struct printer *printer);
/* CSV: the header line. */
void printer_begin(struct printer *printer);
/* built_at_ns: of its batch, which is when it was received. */
void printer_put(struct printer *printer, uint64_t lsn, int64_t built_at_ns,
                 const struct record *record);

#endif
