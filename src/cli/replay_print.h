/*
 * replay_print: what `sluice replay` says on standard output: a dry run, the end of a job, a job of the list; for people, or as one
 * JSON object a line. Fails by ferror(stdout).
 */
#ifndef CLI_REPLAY_PRINT_H
#define CLI_REPLAY_PRINT_H

#include "forward/replay.h"

void replay_print_count(const struct replay_count *count, bool is_json);
void replay_print_summary(const char *job, const char *state, const struct replay_progress *at,
                          bool is_json);
void replay_print_job(const struct replay_job *job, bool is_json);

#endif
