/* What a disk would still have after the power failed: preloaded into redis-server, it answers each
 * fsync and fdatasync at once and notes how long the file was when it was asked. What was written
 * behind that length is what a power loss takes. SIGKILL alone takes nothing: the kernel keeps what
 * was written. No real disk is waited for, so that a busy machine is not mistaken for a bad relay.
 *
 * In: WALRELAY_POWER_LOSS, the file to note in. Out: a line "inode length" for each call. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int note(int fd) {
    const char *path = getenv("WALRELAY_POWER_LOSS");
    struct stat file;
    char line[64];
    if (fstat(fd, &file) != 0) return -1;
    if (path == NULL || !S_ISREG(file.st_mode)) return 0;
    int length = snprintf(line, sizeof line, "%llu %lld\n", (unsigned long long)file.st_ino,
                          (long long)file.st_size);
    int notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* One write, so that two threads do not mix their lines. A note that fails is a failed fsync. */
    int noted = notes >= 0 && write(notes, line, (size_t)length) == length;
    if (notes >= 0) close(notes);
    if (noted) return 0;
    errno = EIO;
    return -1;
}

int fsync(int fd) { return note(fd); }

int fdatasync(int fd) { return note(fd); }
