/*
 * judge: what protocols' judges are made of. An answer is anybody's bytes: nothing here trusts it, and what people are
 * shown of it is one line of printable text. Pure.
 */
#ifndef FORWARD_JUDGE_H
#define FORWARD_JUDGE_H

#include "forward/answer_reader.h"
#include "forward/protocol.h"

/* NUL-terminated: the first line that says something, white space at its ends gone, what cannot be shown as '?', cut
 * between characters. */
void judge_text(char *out, size_t room, struct slice text);
/* Of a JSON string that was taken: its escapes undone, then judge_text. */
void judge_json_text(char *out, size_t room, struct slice raw);
/* What the upstream says is wrong: of a JSON object its detail, message, error or reason; of a page its title; else the
 * first line. "" when there is nothing. */
void judge_reason(char *out, size_t room, struct slice body);

/* What an "error" says: a string, or an object with type and reason (or message): "type: reason". Takes the value
 * at hand. False: it said nothing. */
bool judge_error_value(struct answer_reader *reader, char *out, size_t room);

/* verdict and the answer's own numbers; reason: the words of the body, or "HTTP 503". */
void judge_as(const struct upstream_answer *answer, enum verdict verdict,
              struct judgement *judgement);
/* Likewise, but with this reason where the body has no better. */
void judge_because(const struct upstream_answer *answer, enum verdict verdict, const char *reason,
                   struct judgement *judgement);
/* items[index] is refused; its reason is kept while there is room. In ascending order of index. */
void judge_refuse_item(struct judgement *judgement, uint32_t index, const char *reason);

#endif
