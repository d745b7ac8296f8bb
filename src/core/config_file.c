/*
 * config_file: sluice.conf, read with libinih. The lines are handed to it one by one, because the
 * reader is where the things are found that libinih would swallow: a section name it would cut, a line
 * that is neither section nor key, an indented key (which it takes for more of the value before). Each
 * becomes a problem with file and line. A key whose line is too long for libinih is taken here.
 */
#include "core/config_table.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

/* A configuration is a page or two; more is a wrong file, and reading stops. */
#define FILE_LINES_MAX 20000u

/* libinih keeps a section in 50 bytes with its NUL, and cuts what is longer without a word. */
#define FILE_SECTION_BYTES 49u

/* The longest value there is with its key. libinih takes 200 bytes; a longer line it never sees. */
#define FILE_LINE_BYTES (CONFIG_VALUE_BYTES + 64u)

struct config_file {
    struct config_load *load;
    const char *path;
    FILE *stream;
    unsigned line;
    unsigned line_of_key[CONFIG_KEYS_MAX]; /* 0: not seen in this file */
    char section[FILE_SECTION_BYTES + 1];
    char text[FILE_LINE_BYTES];
};

static const char *file_origin(const struct config_file *file, char *out)
{
    (void)snprintf(out, CONFIG_ORIGIN_BYTES, "%.256s:%u", file->path, file->line);
    return out;
}

static void file_problem(struct config_file *file, const char *what)
{
    char origin[CONFIG_ORIGIN_BYTES];
    config_problem(file->load, "%s: %s", file_origin(file, origin), what);
}

/* Reads one line without its end into file->text; leading blanks and a byte order mark are dropped.
 * False at the end of the file. */
static bool file_read_line(struct config_file *file)
{
    char *text = file->text;
    size_t capacity = sizeof file->text;
    size_t bytes = 0;
    bool is_long = false;
    bool has_nul = false;
    bool is_comment = false;
    int c = getc(file->stream);
    if (c == EOF || file->line == FILE_LINES_MAX) {
        return false;
    }
    file->line++;
    for (; c != EOF && c != '\n'; c = getc(file->stream)) { /* bounded by the line */
        bool is_blank = c == ' ' || c == '\t' || c == '\r';
        if ((is_blank || c == 0xEF || c == 0xBB || c == 0xBF) && bytes == 0) {
            continue; /* the three bytes of the mark begin no key in any encoding */
        }
        /* As libinih: a ';' after a blank begins a comment, a '#' only at the start of the line. */
        bool is_after_blank = bytes == 0 || text[bytes - 1] == ' ' || text[bytes - 1] == '\t';
        is_comment |= (c == ';' && is_after_blank) || (c == '#' && bytes == 0);
        if (is_comment) {
            continue;
        }
        has_nul |= c == 0;
        if (bytes + 1 < capacity) {
            text[bytes++] = (char)c;
        } else {
            is_long |= c != '\r';
        }
    }
    text[bytes] = '\0';
    if (is_long) {
        char why[96];
        (void)snprintf(why, sizeof why, "the line is longer than the %zu bytes it may have",
                       capacity - 1);
        file_problem(file, why);
        text[0] = '\0';
    } else if (has_nul) {
        file_problem(file, "the line contains a NUL byte");
        text[0] = '\0';
    }
    return true;
}

/* [sink "NAME"] is how people write a named section; it means [sink.NAME]. */
static void file_section_unquote(char *section)
{
    char *quote = strstr(section, " \"");
    size_t bytes = strlen(section);
    if (quote == NULL || bytes < 4 || section[bytes - 1] != '"' ||
        quote + 2 > section + bytes - 1) {
        return;
    }
    size_t kind_bytes = (size_t)(quote - section);
    for (size_t i = 0; i < CONFIG_FAMILY_COUNT; i++) {
        const char *name = config_families[i].name;
        if (strlen(name) == kind_bytes && memcmp(section, name, kind_bytes) == 0) {
            section[bytes - 1] = '\0';
            *quote = '.';
            memmove(quote + 1, quote + 2, strlen(quote + 2) + 1);
            return;
        }
    }
}

/* "[store]". A sink is there even when its section has no keys, so that it is found to need some. */
static bool file_take_section(struct config_file *file, const char *text)
{
    size_t bytes = strcspn(text + 1, "]");
    char origin[CONFIG_ORIGIN_BYTES];
    if (text[1 + bytes] != ']') {
        file_problem(file, "the section has no ']'");
        return false;
    }
    if (bytes > FILE_SECTION_BYTES) {
        file_problem(file, "the section name is longer than 49 bytes");
        return false;
    }
    memcpy(file->section, text + 1, bytes);
    file->section[bytes] = '\0';
    file_section_unquote(file->section);
    const struct config_family *family = config_family_of(file->section);
    if (family != NULL) {
        config_family_touch(file->load, family, file->section, file_origin(file, origin));
    }
    return true;
}

/* True when libinih will make of the line what its writer meant. */
static bool file_line_is_ini(struct config_file *file)
{
    const char *text = file->text;
    if (text[0] == '\0' || text[0] == ';' || text[0] == '#') {
        return true;
    }
    if (text[0] == '[') {
        return file_take_section(file, text);
    }
    if (strpbrk(text, "=:") == NULL) {
        file_problem(file, "neither [section] nor key = value");
        return false;
    }
    return true;
}

/* server.listen grows with each line that names it; any other key twice is a mistake that would
 * hide one of the two. */
static void file_offer(struct config_file *file, const char *name, const char *value)
{
    char origin[CONFIG_ORIGIN_BYTES];
    char joined[CONFIG_VALUE_BYTES];
    const struct config_key *key = config_table_find(name);
    const struct config_family *family = config_family_of(name);
    (void)file_origin(file, origin);
    if (family != NULL) {
        config_family_offer(file->load, family, name, value, origin, file->line);
        return;
    }
    if (key == NULL) {
        config_offer(file->load, name, value, origin);
        return;
    }
    unsigned *line_before = &file->line_of_key[key - config_table];
    if (*line_before != 0 && key->type != CONFIG_LISTEN) {
        config_problem(file->load, "%s: %s: was set on line %u already", origin, name,
                       *line_before);
        return;
    }
    if (*line_before != 0) {
        struct buf list;
        buf_init(&list, joined, sizeof joined - 1);
        config_value_put(&list, file->load->config, key);
        buf_printf(&list, ",%s", value);
        joined[list.bytes] = '\0';
        value = joined;
    }
    *line_before = file->line;
    config_offer(file->load, name, value, origin);
}

/* ini_handler. Returns 1 always: what is wrong has been said already, and reading goes on to find
 * the rest. The section is our own copy: libinih's may be cut. */
static int file_on_key(void *context, const char *section, const char *name, const char *value)
{
    struct config_file *file = context;
    char dotted[256];
    (void)section;
    (void)snprintf(dotted, sizeof dotted, "%s%s%.190s", file->section,
                   file->section[0] != '\0' ? "." : "", name);
    file_offer(file, dotted, value != NULL ? value : "");
    return 1;
}

static void file_trim_end(char *text, size_t bytes)
{
    while (bytes > 0 &&
           (text[bytes - 1] == ' ' || text[bytes - 1] == '\t' || text[bytes - 1] == '\r')) {
        bytes--;
    }
    text[bytes] = '\0';
}

/* A key whose line libinih has no room for, split as it would. */
static void file_take_long_line(struct config_file *file)
{
    char *separator = strpbrk(file->text, "=:");
    ASSERT(separator != NULL);
    char *value = separator + 1;
    value += strspn(value, " \t");
    file_trim_end(value, strlen(value));
    file_trim_end(file->text, (size_t)(separator - file->text));
    (void)file_on_key(file, file->section, file->text, value);
}

/* ini_reader: as fgets. */
static char *file_on_read(char *text, int capacity, void *context)
{
    struct config_file *file = context;
    ASSERT(capacity > 2);
    if (!file_read_line(file)) {
        return NULL;
    }
    text[0] = '\0';
    if (!file_line_is_ini(file)) {
        return text;
    }
    size_t bytes = strlen(file->text);
    if (bytes < (size_t)capacity) {
        memcpy(text, file->text, bytes + 1);
    } else if (file->text[0] != '[') {
        file_take_long_line(file);
    }
    return text;
}

void config_read_file(struct config_load *load, const char *path)
{
    struct config_file *file = mem_alloc(sizeof *file);
    file->load = load;
    file->path = path;
    file->stream = fopen(path, "re");
    if (file->stream == NULL) {
        config_problem(load, "%.256s: cannot open: %s", path, err_name(-errno));
        mem_free(file);
        return;
    }
    /* Every line that libinih would refuse was blanked by the reader, so its result has nothing to
     * add. */
    (void)ini_parse_stream(file_on_read, file, file_on_key, file);
    if (ferror(file->stream)) {
        config_problem(load, "%.256s: cannot read: %s", path, err_name(-errno));
    } else if (file->line == FILE_LINES_MAX) {
        config_problem(load, "%.256s: more than %u lines: is this the configuration?", path,
                       FILE_LINES_MAX);
    }
    (void)fclose(file->stream);
    mem_free(file);
}
