#include "cli/record_print.h"

#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "core/ulid.h"
#include "model/lookup.h"

enum {
    FIELD_TEXT_MAX = 1024, /* of a service or name in a line for people */
};

void printer_open(struct printer *printer, FILE *out, enum print_form form, bool has_colours)
{
    *printer = (struct printer){out, form, has_colours, mem_alloc(LOOKUP_SCRATCH_BYTES)};
}

void printer_close(struct printer *printer)
{
    mem_free(printer->scratch);
}

static const char *kind_name(const struct record *record)
{
    const char *name = record_kind_name(record->kind);
    return name == NULL ? "unknown" : name;
}

static void put_slice(const struct printer *printer, struct slice text)
{
    (void)fwrite(text.data, 1, text.bytes, printer->out);
}

/* ---- NDJSON ---- */

/* One line per record: a line break in a record is white space between its tokens (inside a string
 * it would not be JSON), so a space says the same. */
static void put_payload(const struct printer *printer, struct slice payload)
{
    const uint8_t *from = payload.data;
    const uint8_t *end = payload.data + payload.bytes;
    for (const uint8_t *at = from; at < end; at++) {
        if (*at == '\n' || *at == '\r') {
            put_slice(printer, (struct slice){from, (size_t)(at - from)});
            (void)fputc(' ', printer->out);
            from = at + 1;
        }
    }
    put_slice(printer, (struct slice){from, (size_t)(end - from)});
}

static void put_received(const struct printer *printer, int64_t built_at_ns)
{
    char text[CLOCK_RFC3339_BYTES];
    size_t bytes = clock_rfc3339(text, built_at_ns, 6);
    put_slice(printer, (struct slice){(const uint8_t *)text, bytes});
}

/* Which record of which node it was in the beginning, where another Sluice sent it. */
static void put_origin(const struct printer *printer, const struct record *record)
{
    struct origin origin;
    struct first_origin first;
    if (record->meta.bytes == 0 || meta_find_origin(&origin, record->meta) != 1) {
        return;
    }
    if (meta_find_first(&first, record->meta) == 1) {
        origin.node = first.node;
        origin.lsn = first.lsn;
    }
    char node[ULID_TEXT_BYTES];
    ulid_format(node, &origin.node);
    fprintf(printer->out, ",\"origin\":{\"node\":\"%.26s\",\"lsn\":%llu}", node,
            (unsigned long long)origin.lsn);
}

static void put_ndjson(const struct printer *printer, uint64_t lsn, int64_t built_at_ns,
                       const struct record *record)
{
    char id[ULID_TEXT_BYTES];
    ulid_format(id, &record->id);
    fprintf(printer->out, "{\"lsn\":%llu,\"id\":\"%.26s\",\"kind\":\"%s\",\"received_at\":\"",
            (unsigned long long)lsn, id, kind_name(record));
    put_received(printer, built_at_ns);
    (void)fputc('"', printer->out);
    put_origin(printer, record);
    fputs(",\"record\":", printer->out);
    put_payload(printer, record->payload);
    fputs("}\n", printer->out);
}

/* ---- for people ---- */

static const struct {
    const char *name;
    const char *colour;
} levels[] = {
    [SEVERITY_NONE] = {"-", ""},
    [SEVERITY_TRACE] = {"TRACE", "\033[2m"},
    [SEVERITY_DEBUG] = {"DEBUG", "\033[2m"},
    [SEVERITY_INFO] = {"INFO", "\033[32m"},
    [SEVERITY_WARNING] = {"WARNING", "\033[33m"},
    [SEVERITY_ERROR] = {"ERROR", "\033[31m"},
    [SEVERITY_CRITICAL] = {"CRITICAL", "\033[1;31m"},
};

static unsigned level_of(const struct record *record)
{
    return record->severity < ARRAY_COUNT(levels) ? record->severity : (unsigned)SEVERITY_NONE;
}

/* Values of the fields that a line shows. */
struct shown {
    const struct printer *printer;
    enum lookup_field wanted;
    bool is_found;
    bool is_csv;
};

/* C1 controls (U+0080 to U+009F, one of them begins escape sequences) as UTF-8: c2 80 to c2 9f. */
static bool is_c1(struct slice text, size_t i)
{
    return text.data[i] == 0xc2 && i + 1 < text.bytes && text.data[i + 1] >= 0x80 &&
           text.data[i + 1] <= 0x9f;
}

void print_visible(FILE *out, struct slice text, bool keeps_tabs)
{
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        bool is_control = c < 0x20 || c == 0x7f;
        if (is_c1(text, i)) {
            fprintf(out, "\\u%04x", text.data[++i]);
        } else if (is_control && !(keeps_tabs && c == '\t')) {
            fprintf(out, "\\x%02x", c);
        } else {
            (void)fputc(c, out);
        }
    }
}

static void put_visible(const struct printer *printer, struct slice text)
{
    print_visible(printer->out, text, true);
}

/* A line break between the tokens of a record is white space: see put_payload. */
static void put_visible_payload(const struct printer *printer, struct slice payload)
{
    size_t from = 0;
    for (size_t at = 0; at < payload.bytes; at++) {
        if (payload.data[at] == '\n' || payload.data[at] == '\r') {
            put_visible(printer, (struct slice){payload.data + from, at - from});
            (void)fputc(' ', printer->out);
            from = at + 1;
        }
    }
    put_visible(printer, (struct slice){payload.data + from, payload.bytes - from});
}

static void put_csv_text(const struct printer *printer, struct slice text)
{
    (void)fputc('"', printer->out);
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] == '"') {
            (void)fputc('"', printer->out);
        }
        (void)fputc(text.data[i], printer->out);
    }
    (void)fputc('"', printer->out);
}

static bool on_value(void *context, enum lookup_field field, struct slice value)
{
    struct shown *shown = context;
    if (field != shown->wanted) {
        return true;
    }
    shown->is_found = true;
    if (shown->is_csv) {
        put_csv_text(shown->printer, value);
    } else {
        put_visible(shown->printer, value);
    }
    return false;
}

static bool put_field(const struct printer *printer, const struct record *record,
                      enum lookup_field field, bool is_csv)
{
    struct shown shown = {.printer = printer, .wanted = field, .is_csv = is_csv};
    (void)lookup_walk(record->payload, 1u << field, printer->scratch, on_value, &shown);
    return shown.is_found;
}

static void put_text(const struct printer *printer, const struct record *record)
{
    char time[CLOCK_RFC3339_BYTES];
    size_t bytes = clock_rfc3339(time, record->event_time_ns, 3);
    unsigned level = level_of(record);
    put_slice(printer, (struct slice){(const uint8_t *)time, bytes});
    fprintf(printer->out, " %s%-8s%s ", printer->has_colours ? levels[level].colour : "",
            record->severity == SEVERITY_NONE ? kind_name(record) : levels[level].name,
            printer->has_colours ? "\033[0m" : "");
    if (put_field(printer, record, LOOKUP_SERVICE, false) ||
        put_field(printer, record, LOOKUP_SOURCE, false)) {
        fputs(": ", printer->out);
    }
    if (!put_field(printer, record, LOOKUP_MESSAGE, false)) {
        put_visible_payload(printer, record->payload);
    }
    (void)fputc('\n', printer->out);
}

/* ---- CSV ---- */

static void put_csv(const struct printer *printer, uint64_t lsn, int64_t built_at_ns,
                    const struct record *record)
{
    char id[ULID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];
    ulid_format(id, &record->id);
    size_t bytes = clock_rfc3339(time, record->event_time_ns, 9);
    fprintf(printer->out, "%llu,%.26s,%s,", (unsigned long long)lsn, id, kind_name(record));
    put_received(printer, built_at_ns);
    fprintf(printer->out, ",%.*s,%s,", (int)bytes, time,
            record->severity == SEVERITY_NONE ? "" : levels[level_of(record)].name);
    if (!put_field(printer, record, LOOKUP_SERVICE, true)) {
        (void)put_field(printer, record, LOOKUP_SOURCE, true);
    }
    (void)fputc(',', printer->out);
    (void)put_field(printer, record, LOOKUP_NAME, true);
    (void)fputc(',', printer->out);
    (void)put_field(printer, record, LOOKUP_MESSAGE, true);
    (void)fputc(',', printer->out);
    put_csv_text(printer, record->payload);
    fputs("\r\n", printer->out);
}

void printer_begin(struct printer *printer)
{
    if (printer->form == PRINT_CSV) {
        fputs("lsn,id,kind,received_at,timestamp,severity,service,name,message,record\r\n",
              printer->out);
    }
}

void printer_put(struct printer *printer, uint64_t lsn, int64_t built_at_ns,
                 const struct record *record)
{
    switch (printer->form) {
    case PRINT_NDJSON:
        put_ndjson(printer, lsn, built_at_ns, record);
        break;
    case PRINT_TEXT:
        put_text(printer, record);
        break;
    case PRINT_CSV:
        put_csv(printer, lsn, built_at_ns, record);
        break;
    }
}
