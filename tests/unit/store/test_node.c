/* node: the lock names its holder; the name is made once and comes back. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "store/node.h"

static char dir[64];

/* One level below dir, then dir: all that these tests make. */
static void remove_tree(const char *path)
{
    DIR *listing = opendir(path);
    if (listing == NULL) {
        return;
    }
    int fd = dirfd(listing);
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        (void)unlinkat(fd, entry->d_name, 0);
    }
    (void)closedir(listing);
    (void)rmdir(path);
}

static void second_holder_is_refused_and_told_who(void **state)
{
    (void)state;
    struct node_lock first;
    struct node_lock second;
    struct err err = {0};
    assert_int_equal(node_lock_take(&first, dir, &err), 0);
    assert_int_equal(node_lock_take(&second, dir, &err), -EBUSY);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %ld ", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_int_equal(second.fd, -1);
    node_lock_give(&first);
    assert_int_equal(node_lock_take(&second, dir, &err), 0);
    node_lock_give(&second);
}

static void lock_of_a_dead_process_is_taken_over(void **state)
{
    (void)state;
    struct err err = {0};
    pid_t child = fork();
    if (child == 0) {
        struct node_lock lock;
        _exit(node_lock_take(&lock, dir, &err) == 0 ? 0 : 1); /* dies with the lock held */
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct node_lock lock;
    assert_int_equal(node_lock_take(&lock, dir, &err), 0);
    node_lock_give(&lock);
}

static void name_is_kept_and_damage_is_told(void **state)
{
    (void)state;
    struct file_io *io = NULL;
    struct err err = {0};
    assert_int_equal(file_io_real_open(&io, dir, true, &err), 0);
    struct ulid node = {{1, 2, 3}};
    struct ulid back = {{0}};
    assert_int_equal(node_read(&back, io, &err), -ENOENT);
    assert_int_equal(node_write(&node, io, &err), 0);
    assert_int_equal(node_read(&back, io, &err), 0);
    assert_memory_equal(&node, &back, sizeof node);
    for (uint64_t bytes = 0; bytes < ULID_TEXT_BYTES + 1; bytes++) { /* each truncation */
        struct file file;
        assert_int_equal(node_write(&node, io, &err), 0);
        assert_int_equal(io->ops->open(io, NODE_FILE, 0, &file), 0);
        assert_int_equal(io->ops->truncate(io, file, bytes), 0);
        io->ops->close(io, file);
        assert_int_equal(node_read(&back, io, &err), ERR_CORRUPT);
    }
    io->ops->destroy(io);
}

int main(void)
{
    (void)snprintf(dir, sizeof dir, "test_node.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_holder_is_refused_and_told_who),
        cmocka_unit_test(lock_of_a_dead_process_is_taken_over),
        cmocka_unit_test(name_is_kept_and_damage_is_told),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(dir);
    return r;
}
