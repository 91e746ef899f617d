// SPDX-License-Identifier: Apache-2.0
// What a CUDA build of torch asks a driver and a device before gradients flow: they are there, and
// hold nothing. Its soname is libcuda.so.1, so that torch finds this where it looks for a driver.
#define EXPORTED __attribute__((visibility("default")))

static signed char devices = 0;

// torch must see no device while it is loaded, and enough of them afterwards.
extern "C" EXPORTED void stub_devices(int count) { devices = static_cast<signed char>(count); }

// These stand before those of libc10_cuda, because this library is loaded first.
namespace c10::cuda {
EXPORTED signed char device_count() noexcept { return devices; }
EXPORTED signed char device_count_ensure_non_zero() { return devices; }
}  // namespace c10::cuda

extern "C" {
EXPORTED int cuDevicePrimaryCtxGetState(int, unsigned *flags, int *active) {
  *flags = 0;
  *active = 0;
  return 0;
}
EXPORTED int cuGetErrorString(int, const char **text) {
  *text = "the stand-in has no driver";
  return 0;
}
EXPORTED int cuDriverGetVersion(int *version) {
  *version = 13020;
  return 0;
}
}
