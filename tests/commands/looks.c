/* Preloaded under a reader: just before its n-th look at a file of a folder (an open or a stat),
 * that folder and another one change places. For Linux with glibc.
 *
 *     cc -shared -fPIC -o looks.so looks.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char folder[PATH_MAX], other[PATH_MAX];
static int at;
static atomic_int looks;

/* `n` 0: look on without a change. */
void watch(const char *watched, const char *aside, int n)
{
    strncpy(folder, watched, PATH_MAX - 1);
    strncpy(other, aside, PATH_MAX - 1);
    at = n;
    looks = 0;
}

int looks_so_far(void) { return looks; }

static void look(const char *path)
{
    size_t length = strlen(folder);
    if (length == 0 || path == NULL || strncmp(path, folder, length) != 0 ||
        path[length] != '/' || strchr(path + length, '*') != NULL)
        return;
    if (++looks == at)
        syscall(SYS_renameat2, AT_FDCWD, folder, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
}

#define NEXT(type, name) \
    static __typeof__(type) next; \
    if (next == NULL) \
        next = (type)dlsym(RTLD_NEXT, name)

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, unsigned int); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        MODE look(path); \
        NEXT(int (*)(const char *, int, ...), #name); \
        return next(path, flags, mode); \
    }

#define OPENAT(name) \
    int name(int base, const char *path, int flags, ...) \
    { \
        MODE look(path); \
        NEXT(int (*)(int, const char *, int, ...), #name); \
        return next(base, path, flags, mode); \
    }

#define STAT(name) \
    int name(const char *path, void *found) \
    { \
        look(path); \
        NEXT(int (*)(const char *, void *), #name); \
        return next(path, found); \
    }

#define OLD_STAT(name) \
    int name(int version, const char *path, void *found) \
    { \
        look(path); \
        NEXT(int (*)(int, const char *, void *), #name); \
        return next(version, path, found); \
    }

OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
STAT(stat) STAT(stat64) STAT(lstat) STAT(lstat64)
OLD_STAT(__xstat) OLD_STAT(__xstat64) OLD_STAT(__lxstat) OLD_STAT(__lxstat64)

int statx(int base, const char *path, int flags, unsigned int mask, void *found)
{
    look(path);
    NEXT(int (*)(int, const char *, int, unsigned int, void *), "statx");
    return next(base, path, flags, mask, found);
}
