/*
 * faults.c
 *		Faults that a machine has, for a server that is started with this library
 *		in LD_PRELOAD: a full disk, one that does not answer, WAL that stays in
 *		memory, memory that runs out, a clock that is set, waits without an end.
 *
 * FAULTS names a file of six integers of eight bytes, which the test writes and
 * all processes of the server see at once:
 *
 *	full		1: what makes a file below the folder FAULTS_DISK longer fails with
 *				ENOSPC, as on a full disk; what is there may be written over
 *	memory		n: each n-th allocation of 8 kB or more fails, in all processes but
 *				the first one, the postmaster
 *	clock		seconds by which the time of day is off; clocks that only run are not
 *	slow		1: fdatasync does not come back until it is 0 again
 *	held		1: a write to the WAL does not begin until it is 0 again, so that what is in
 *				the server's buffers is lost with it
 *	endless		1: a wait for a latch or a socket that begins now is not ended by its
 *				timeout, but by what is waited for, or a signal; so what ends one is known
 *
 * Only what PostgreSQL calls is here: write, pwrite, pwritev, posix_fallocate,
 * fdatasync, malloc, realloc, gettimeofday, clock_gettime, time, epoll_wait.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LARGE 8192

typedef struct Faults
{
	int64_t		full;
	int64_t		memory;
	int64_t		clock;
	int64_t		slow;
	int64_t		held;
	int64_t		endless;
}			Faults;

extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *old, size_t size);

static Faults none;
static volatile Faults *faults = &none;
static const char *disk;
static pid_t first;
static unsigned allocations;

__attribute__((constructor))
static void
attach_faults(void)
{
	const char *name = getenv("FAULTS");
	int			fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
	void	   *map;

	first = getpid();
	disk = getenv("FAULTS_DISK");
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(Faults), PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		faults = map;
	close(fd);
}

/* find_path tells where a file is; 0 if that cannot be told. */
static int
find_path(int fd, char *path, size_t size)
{
	char		link[64];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, size - 1);
	if (length <= 0)
		return 0;
	path[length] = '\0';
	return 1;
}

/* is_full says whether a file may not get that long. */
static int
is_full(int fd, off_t end)
{
	char		path[4096];
	struct stat st;

	if (!faults->full || !disk || !find_path(fd, path, sizeof(path)))
		return 0;
	if (strncmp(path, disk, strlen(disk)) != 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || end <= st.st_size)
		return 0;
	errno = ENOSPC;
	return 1;
}

ssize_t
write(int fd, const void *data, size_t size)
{
	if (faults->full && is_full(fd, lseek(fd, 0, SEEK_CUR) + (off_t) size))
		return -1;
	return syscall(SYS_write, fd, data, size);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	char		path[4096];

	while (*(volatile int64_t *) &faults->held && find_path(fd, path, sizeof(path)) && strstr(path, "/pg_wal/"))
		usleep(1000);
	if (is_full(fd, offset + (off_t) size))
		return -1;
	return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite(fd, data, size, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	size_t		size = 0;

	for (int i = 0; i < count; i++)
		size += parts[i].iov_len;
	if (is_full(fd, offset + (off_t) size))
		return -1;
	return syscall(SYS_pwritev, fd, parts, count, (long) offset, (long) ((uint64_t) offset >> 32));
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
	return pwritev(fd, parts, count, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	if (is_full(fd, offset + size))
		return ENOSPC;
	return syscall(SYS_fallocate, fd, 0, offset, size) == 0 ? 0 : errno;
}

int
posix_fallocate64(int fd, off_t offset, off_t size)
{
	return posix_fallocate(fd, offset, size);
}

int
fdatasync(int fd)
{
	while (*(volatile int64_t *) &faults->slow)
		usleep(1000);
	return syscall(SYS_fdatasync, fd);
}

/* is_exhausted says whether this allocation is one that fails. */
static int
is_exhausted(size_t size)
{
	int64_t		each = *(volatile int64_t *) &faults->memory;	/* it changes meanwhile */

	return size >= LARGE && each > 0 && getpid() != first && ++allocations % (uint64_t) each == 0;
}

void *
malloc(size_t size)
{
	if (is_exhausted(size))
	{
		errno = ENOMEM;
		return NULL;
	}
	return __libc_malloc(size);
}

void *
realloc(void *old, size_t size)
{
	if (is_exhausted(size))
	{
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(old, size);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int	(*real) (clockid_t, struct timespec *);
	int			result;

	if (!real)
		real = (int (*) (clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	result = real(clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += faults->clock;
	return result;
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec time;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &time);
	now->tv_sec = time.tv_sec;
	now->tv_usec = time.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}

int
epoll_wait(int fd, struct epoll_event *events, int room, int timeout)
{
	if (timeout > 0 && *(volatile int64_t *) &faults->endless)
		timeout = -1;
	return syscall(SYS_epoll_pwait, fd, events, room, timeout, NULL, 8);
}
