/*
 * quarantine: see quarantine.h. Start-up only; what fails here is told by the caller and costs
 * nothing but the copy.
 */
#include "store/quarantine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void name_format(char *name, uint64_t segment_id, uint64_t offset, const char *suffix)
{
    int n = snprintf(name, QUARANTINE_NAME_BYTES, QUARANTINE_DIR "/%016" PRIx64 "-%" PRIu64 ".%s",
                     segment_id, offset, suffix);
    ASSERT(n > 0);
    ASSERT((size_t)n < QUARANTINE_NAME_BYTES);
}

static int fill(struct file_io *io, struct file file, struct slice bytes)
{
    int r = io->ops->truncate(io, file, 0); /* what an interrupted start left */
    r = r < 0 ? r : io->ops->write(io, file, bytes.data, bytes.bytes, 0, false);
    return r < 0 ? r : io->ops->sync(io, file);
}

static int write_copy(struct file_io *io, const char *temporary, const char *name,
                      struct slice bytes)
{
    struct file file;
    int r = io->ops->open(io, temporary, FILE_OPEN_CREATE, &file);
    if (r < 0) {
        return r;
    }
    r = fill(io, file, bytes);
    io->ops->close(io, file);
    r = r < 0 ? r : io->ops->rename(io, temporary, name);
    if (r < 0) {
        (void)io->ops->unlink(io, temporary); /* half a copy would only take room */
        return r;
    }
    return io->ops->sync_dir(io, QUARANTINE_DIR);
}

int quarantine_keep(char *name, struct file_io *io, uint64_t segment_id, uint64_t offset,
                    struct slice bytes)
{
    ASSERT(bytes.bytes > 0);
    char temporary[QUARANTINE_NAME_BYTES];
    name_format(name, segment_id, offset, "bin");
    name_format(temporary, segment_id, offset, "tmp");
    int r = io->ops->make_dir(io, QUARANTINE_DIR);
    r = r < 0 ? r : io->ops->sync_dir(io, "");
    if (r < 0) {
        return r;
    }
    struct file file;
    r = io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file);
    if (r == 0) {
        io->ops->close(io, file); /* kept by an earlier start; the name says that it is whole */
        return 0;
    }
    return r == -ENOENT ? write_copy(io, temporary, name, bytes) : r;
}
