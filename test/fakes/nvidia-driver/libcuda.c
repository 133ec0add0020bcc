/*
 * Stands for libcuda.so.1 in test packages: cuInit and cuDeviceGetCount, with the CUresult codes of cuda.h.
 * The module's version file says whether a module is loaded, "gpus" how many GPUs there are, "cuda-error" which error cuInit gives.
 */
#include <stdio.h>

static int number_in(const char *file, int otherwise) {
  FILE *stream = fopen(file, "r");
  int number = otherwise;
  if (stream == NULL) return otherwise;
  if (fscanf(stream, "%d", &number) != 1) number = otherwise;
  fclose(stream);
  return number;
}

int cuInit(unsigned int flags) {
  FILE *module = fopen("/var/lib/fakegpu/proc/driver/nvidia/version", "r");
  (void)flags;
  if (module == NULL) return 100; /* CUDA_ERROR_NO_DEVICE */
  fclose(module);
  return number_in("/var/lib/fakegpu/cuda-error", 0);
}

int cuDeviceGetCount(int *count) {
  *count = number_in("/var/lib/fakegpu/gpus", 0);
  return 0;
}
