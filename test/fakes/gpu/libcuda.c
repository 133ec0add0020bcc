/* Stands for libcuda.so.1: cuInit and cuDeviceGetCount, with the answers that the stand-in nvidia-smi gives for the driver's
   state (CUresult codes of NVIDIA's cuda.h: 100 no device, 802 no fabric manager yet, 803 module and library differ). */
#include <stdio.h>

static int ask(int *count) {
  int code = 999;
  FILE *answer = popen("/usr/bin/nvidia-smi --fakegpu-cuda 2>/dev/null", "r");
  if (answer == NULL) return code;
  char line[64] = "";
  if (fgets(line, sizeof line, answer) != NULL) {
    int place = 0;
    code = 0;
    for (; line[place] >= '0' && line[place] <= '9'; place++) code = code * 10 + line[place] - '0';
    *count = 0;
    for (place++; line[place] >= '0' && line[place] <= '9'; place++) *count = *count * 10 + line[place] - '0';
  }
  pclose(answer);
  return code;
}

int cuInit(unsigned flags) {
  int count = 0;
  (void)flags;
  return ask(&count);
}

int cuDeviceGetCount(int *count) { return ask(count); }
