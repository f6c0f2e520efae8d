/* Android's log, on standard error. */
#include <stdarg.h>
#include <stdio.h>

int __android_log_vprint(int level, const char *tag, const char *format, va_list values) {
    fprintf(stderr, "[%d] %s: ", level, tag);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    return 1;
}

int __android_log_print(int level, const char *tag, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int written = __android_log_vprint(level, tag, format, values);
    va_end(values);
    return written;
}

int __android_log_write(int level, const char *tag, const char *message) {
    return fprintf(stderr, "[%d] %s: %s\n", level, tag, message);
}
