/* Answers as NVIDIA's driver libraries do, for a device whose memory in use stands in a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int device;

int cuInit(unsigned flags) { return flags != 0; }

int cuDeviceGet(int *handle, int ordinal) {
    *handle = ordinal + 7;
    return ordinal > 1;
}

int cuDeviceGetUuid_v2(unsigned char uuid[16], int handle) {
    memset(uuid, 0xab, 16);
    uuid[0] = (unsigned char)handle;
    return 0;
}

int nvmlInit_v2(void) { return getenv("DRIVER_DOWN") != NULL; }

int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    const char *known = getenv("DRIVER_UUID");
    if (known == NULL || strcmp(uuid, known) != 0) {
        return 6;
    }
    *handle = &device;
    return 0;
}

struct memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory *memory) {
    FILE *file = fopen(getenv("DRIVER_USED"), "r");
    int told = 0;
    if (file != NULL) {
        if (handle == &device && memory->version == (sizeof *memory | 2u << 24)) {
            told = fscanf(file, "%llu", &memory->used);
        }
        fclose(file);
    }
    if (getenv("DRIVER_HANGS") != NULL) {
        sleep(5);
    }
    return told == 1 ? 0 : 999;
}
