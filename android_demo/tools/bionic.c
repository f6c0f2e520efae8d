/* What Android's C library has and glibc lacks, or lays out otherwise, for the runtime's libraries of an
 * APK to run on Linux. Each function `bionic_NAME` is found by `bionic_fill` under NAME, before glibc's.
 * Only what ONNX Runtime imports, for tests: see shim.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

void *bionic_stdin, *bionic_stdout, *bionic_stderr;

static void miss(void) {
    fputs("the shim lacks a function that was called; BIONIC_SHIM_DEBUG=1 names those it lacks\n", stderr);
    abort();
}

static void *find(void *library, const char *prefix, const char *name) {
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return dlsym(library, whole);
}

/* Fill a table with the functions of these names, given as pairs: Android's name, glibc's. */
void bionic_fill(const char *const *names, void **table, unsigned count) {
    void *own = dlopen("libbionicglue.so", RTLD_NOW);
    void *c = dlopen("libc.so.6", RTLD_NOW), *m = dlopen("libm.so.6", RTLD_NOW);
    bionic_stdin = stdin, bionic_stdout = stdout, bionic_stderr = stderr;
    for (unsigned i = 0; i < count; i++) {
        void *found = find(own, "bionic_", names[2 * i]);
        if (!found) found = find(c, "", names[2 * i + 1]);
        if (!found) found = find(m, "", names[2 * i + 1]);
        if (!found && getenv("BIONIC_SHIM_DEBUG")) fprintf(stderr, "no %s\n", names[2 * i]);
        table[i] = found ? found : (void *)miss;
    }
}

int bionic___system_property_get(const char *name, char *value) {
    (void)name;
    if (value) *value = 0;
    return 0;
}

void bionic_android_set_abort_message(const char *message) { fprintf(stderr, "%s\n", message); }

/* Android numbers what is asked for otherwise. */
long bionic_sysconf(int asked) {
    switch (asked) {
        case 0x27: case 0x28: return sysconf(_SC_PAGESIZE);
        case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
        case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
        case 0x62: return sysconf(_SC_PHYS_PAGES);
        case 0x63: return sysconf(_SC_AVPHYS_PAGES);
    }
    return -1;
}

/* A set of signals has 64 bits there, 1,024 here. */
int bionic_sigfillset(uint64_t *set) {
    *set = ~(uint64_t)0;
    return 0;
}

void bionic___FD_SET_chk(int fd, uint64_t *set, size_t size) {
    (void)size;
    set[fd / 64] |= (uint64_t)1 << (fd % 64);
}

int bionic___FD_ISSET_chk(int fd, const uint64_t *set, size_t size) {
    (void)size;
    return (set[fd / 64] >> (fd % 64)) & 1;
}

int bionic___register_atfork(void) { return 0; }

/* Theirs leaves the path as it is. */
char *bionic_dirname(const char *path) {
    static __thread char copy[4096];
    strncpy(copy, path ? path : ".", sizeof copy - 1);
    return dirname(copy);
}

/* Standard streams are an array `__sF` of 152 bytes each there; every library has one of its own. */
enum { STREAM_BYTES = 152, MOST_TABLES = 8 };
static char *stream_tables[MOST_TABLES];
static int stream_table_count;

void bionic_note_streams(void *table) {
    if (stream_table_count < MOST_TABLES) stream_tables[stream_table_count++] = table;
}

static FILE *stream(void *given) {
    FILE *known[] = {stdin, stdout, stderr};
    for (int i = 0; i < stream_table_count; i++) {
        long offset = (char *)given - stream_tables[i];
        if (offset >= 0 && offset < 3 * STREAM_BYTES) return known[offset / STREAM_BYTES];
    }
    return given;
}

int bionic_fflush(void *to) { return fflush(stream(to)); }
int bionic_fputs(const char *text, void *to) { return fputs(text, stream(to)); }
size_t bionic_fwrite(const void *data, size_t size, size_t count, void *to) { return fwrite(data, size, count, stream(to)); }
int bionic_fputc(int c, void *to) { return fputc(c, stream(to)); }
int bionic_vfprintf(void *to, const char *format, va_list values) { return vfprintf(stream(to), format, values); }
int bionic_fprintf(void *to, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = vfprintf(stream(to), format, values);
    va_end(values);
    return written;
}
int bionic_fileno(void *of) { return fileno(stream(of)); }
int bionic_getc(void *from) { return getc(stream(from)); }
int bionic_ungetc(int c, void *to) { return ungetc(c, stream(to)); }
wint_t bionic_getwc(void *from) { return getwc(stream(from)); }
wint_t bionic_fputwc(wchar_t c, void *to) { return fputwc(c, stream(to)); }
wint_t bionic_ungetwc(wint_t c, void *to) { return ungetwc(c, stream(to)); }

#ifdef __aarch64__
/* On this architecture glibc's objects of threads are larger than Android's, or aligned otherwise. */
enum { MUTEX_BYTES = 40, ATTRIBUTE_BYTES = 56 };

int bionic_pthread_mutex_init(void *mutex, const void *attributes) {
    pthread_mutex_t made;
    int failed = pthread_mutex_init(&made, attributes);
    memcpy(mutex, &made, MUTEX_BYTES);
    return failed;
}

int bionic_pthread_attr_init(void *attributes) {
    memset(attributes, 0, ATTRIBUTE_BYTES);
    return 0;
}

int bionic_pthread_attr_setstacksize(void *attributes, size_t size) {
    (void)attributes, (void)size;
    return 0;
}

int bionic_pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *given) {
    (void)attributes;
    return pthread_create(thread, NULL, run, given);
}

/* In the room of theirs lies a pointer to one of ours. */
static pthread_cond_t *condition(void *theirs) {
    void **place = (void **)(((uintptr_t)theirs + 7) & ~(uintptr_t)7);
    void *known = __atomic_load_n(place, __ATOMIC_ACQUIRE), *none = NULL;
    if (known) return known;
    pthread_cond_t *made = calloc(1, sizeof *made);
    if (__atomic_compare_exchange_n(place, &none, (void *)made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return made;
    free(made);
    return none;
}

int bionic_pthread_cond_wait(void *c, void *mutex) { return pthread_cond_wait(condition(c), mutex); }
int bionic_pthread_cond_timedwait(void *c, void *mutex, const struct timespec *until) { return pthread_cond_timedwait(condition(c), mutex, until); }
int bionic_pthread_cond_broadcast(void *c) { return pthread_cond_broadcast(condition(c)); }
int bionic_pthread_cond_signal(void *c) { return pthread_cond_signal(condition(c)); }
int bionic_pthread_cond_destroy(void *c) {
    (void)c;
    return 0;
}

/* Under emulation the host's list of processors is not of this architecture. */
static const char *place_of(const char *path) {
    const char *made = getenv("BIONIC_CPUINFO");
    return made && !strcmp(path, "/proc/cpuinfo") ? made : path;
}

int bionic_open(const char *path, int flags, int mode) { return open(place_of(path), flags, mode); }
int bionic___open_2(const char *path, int flags) { return open(place_of(path), flags); }
void *bionic_fopen(const char *path, const char *mode) { return fopen(place_of(path), mode); }
#endif
