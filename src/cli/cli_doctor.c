/*
 * cli_doctor: `sluice doctor`, what this host will give. Runs the checks of doctor_*.c and adds
 * them up: exit 1 when one of them would stop `serve`.
 */
#include "cli/cli.h"
#include "cli/doctor.h"

#include "core/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *doctor_verdict_name(enum doctor_verdict verdict)
{
    switch (verdict) {
    case DOCTOR_OK:
        return "ok";
    case DOCTOR_NOTE:
        return "note";
    case DOCTOR_PROBLEM:
        return "problem";
    }
    return "?";
}

static void doctor_put_member(struct buf *line, const char *name, const char *text)
{
    buf_printf(line, ",\"%s\":", name);
    buf_put_json_string(line, (struct slice){(const uint8_t *)text, strlen(text)});
}

static void doctor_write(struct doctor *doctor, const struct doctor_advice *advice,
                         const char *what)
{
    char memory[8192];
    struct buf line;
    buf_init(&line, memory, sizeof memory);
    const char *verdict = doctor_verdict_name(advice->verdict);
    if (doctor->is_json) {
        buf_printf(&line, "{\"verdict\":\"%s\"", verdict);
        doctor_put_member(&line, "subject", advice->subject);
        doctor_put_member(&line, "what", what);
        if (advice->why != NULL) {
            doctor_put_member(&line, "why", advice->why);
            doctor_put_member(&line, "mend", advice->mend);
        }
        buf_put_text(&line, "}\n");
    } else {
        buf_printf(&line, "%-8s %s: %s", verdict, advice->subject, what);
        if (advice->why != NULL) {
            buf_printf(&line, " - %s - %s", advice->why, advice->mend);
        }
        buf_put_char(&line, '\n');
    }
    (void)cli_put(STDOUT_FILENO, &line);
}

void doctor_say(struct doctor *doctor, const struct doctor_advice *advice, const char *format, ...)
{
    char what[1024];
    va_list args;
    ASSERT((advice->why == NULL) == (advice->mend == NULL));
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    doctor->note_count += advice->verdict == DOCTOR_NOTE ? 1 : 0;
    doctor->problem_count += advice->verdict == DOCTOR_PROBLEM ? 1 : 0;
    doctor_write(doctor, advice, what);
}

void doctor_ok(struct doctor *doctor, const char *subject, const char *format, ...)
{
    char what[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    doctor_write(doctor, &(struct doctor_advice){.verdict = DOCTOR_OK, .subject = subject}, what);
}

bool doctor_read_line(char *out, size_t capacity, const char *path)
{
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        return false;
    }
    bool has_line = fgets(out, (int)capacity, stream) != NULL;
    (void)fclose(stream);
    if (has_line) {
        out[strcspn(out, "\n")] = '\0';
    }
    return has_line;
}

static void doctor_sum_up(const struct doctor *doctor)
{
    if (doctor->is_json) {
        return; /* the lines say it all */
    }
    if (doctor->problem_count > 0) {
        cli_say(STDOUT_FILENO, "\n%u problem%s: serve would fail here", doctor->problem_count,
                doctor->problem_count == 1 ? "" : "s");
    } else {
        cli_say(STDOUT_FILENO, "\nserve can run here (%u note%s)", doctor->note_count,
                doctor->note_count == 1 ? "" : "s");
    }
}

int cli_doctor(int argc, char **argv)
{
    static struct cli_sources cli;
    int exit_code = CLI_DONE;
    if (!cli_sources(&cli, argc, argv, &exit_code) || !cli_no_rest(&cli, argv[0], &exit_code)) {
        return exit_code;
    }
    struct config *config = mem_alloc(sizeof *config);
    if (!cli_load(&cli, config)) {
        mem_free(config);
        return CLI_FAILED;
    }
    struct doctor doctor = {.config = config, .is_json = cli.is_json};
    doctor_check_kernel(&doctor);
    doctor_check_limits(&doctor);
    doctor_check_cores(&doctor);
    doctor_check_clock(&doctor);
    doctor_check_disk(&doctor);
    doctor_sum_up(&doctor);
    mem_free(config);
    return doctor.problem_count > 0 ? CLI_FAILED : CLI_DONE;
}
