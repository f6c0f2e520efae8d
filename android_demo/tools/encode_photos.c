/* Encodes pictures with an APK's own runtime: LIBRARY MODEL PPM..., a line of numbers for each. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "onnxruntime_c_api.h"

static const OrtApi *ort;

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
    _exit(2);
}

static void encode(OrtSession *session, const char *file) {
    int64_t shape[3] = {0, 0, 3};
    FILE *opened = fopen(file, "rb");
    if (!opened || fscanf(opened, "P6 %ld %ld 255", &shape[1], &shape[0]) != 2) _exit(3);
    fgetc(opened);
    size_t size = shape[0] * shape[1] * 3;
    unsigned char *pixels = malloc(size);
    if (fread(pixels, 1, size, opened) != size) _exit(3);
    fclose(opened);
    OrtMemoryInfo *memory;
    OrtValue *image, *found = NULL;
    OrtTensorTypeAndShapeInfo *info;
    size_t count;
    float *vector;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(
        memory, pixels, size, shape, 3, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &image));
    const char *inputs[] = {"image"}, *outputs[] = {"embedding"};
    check(ort->Run(session, NULL, inputs, (const OrtValue *const *)&image, 1, outputs, 1, &found));
    check(ort->GetTensorTypeAndShape(found, &info));
    check(ort->GetTensorShapeElementCount(info, &count));
    check(ort->GetTensorMutableData(found, (void **)&vector));
    for (size_t i = 0; i < count; i++) printf("%.9g ", vector[i]);
    putchar('\n');
    free(pixels);
}

int main(int count, char **given) {
    void *library = dlopen(given[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
    ort = base()->GetApi(ORT_API_VERSION);
    fprintf(stderr, "onnxruntime %s\n", base()->GetVersionString());
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "test", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(environment, given[2], options, &session));
    for (int i = 3; i < count; i++) encode(session, given[i]);
    fflush(stdout);
    /* Without what its own C library would do at the end. */
    _exit(0);
}
