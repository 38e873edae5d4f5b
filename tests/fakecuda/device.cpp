// A device of type "cuda" for a CPU build of torch: its memory is an arena of the process's own,
// its kernels are the CPU's. Who gets which piece of the arena is asked of a callback.
//
// What torch finds here is what it finds of a card: tensors whose device is cuda:0, a dispatch key
// that no CPU kernel answers, a device guard, and so a backward on a thread of the engine's.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using c10::Device;
using c10::DeviceType;

// Gives an address, or 0 where memory is out: it has then told why with fakecuda_refuse.
uint64_t (*take)(uint64_t size_bytes) = nullptr;
std::string refusal;

// What has died since it was last asked for, in order. Nothing is called then: a tensor may die
// on any thread, beside an exception that Python is about to raise, or after the interpreter.
std::mutex dead_mutex;
std::deque<uint64_t> dead;

const Device kHere(DeviceType::CUDA, 0);

void release(void* pointer) {
  std::lock_guard<std::mutex> guard(dead_mutex);
  dead.push_back(reinterpret_cast<uint64_t>(pointer));
}

struct ArenaAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size_bytes) override {
    if (size_bytes == 0) {
      return {nullptr, nullptr, &release_nothing, kHere};
    }
    TORCH_CHECK(take != nullptr, "the double is not installed");
    auto* pointer = reinterpret_cast<void*>(take(size_bytes));
    TORCH_CHECK_WITH(OutOfMemoryError, pointer != nullptr, refusal);
    return {pointer, pointer, &release, kHere};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &release;
  }
  void copy_data(void* dest, const void* src, std::size_t count) const override {
    default_copy_data(dest, src, count);
  }
  static void release_nothing(void*) {}
};

ArenaAllocator arena;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override {
    return DeviceType::CUDA;
  }
  Device exchangeDevice(Device) const override {
    return kHere;
  }
  Device getDevice() const override {
    return kHere;
  }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  c10::Stream getStream(Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream) const override {
    return c10::Stream(c10::Stream::DEFAULT, kHere);
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return 1;
  }
  // All has been done when an operation returns: events have nothing to wait for.
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

Guard guard;

struct CUDAHooks final : at::CUDAHooksInterface {
  CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasCUDA() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return 1;
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  c10::DeviceIndex current_device() const override {
    return 0;
  }
  int getNumGPUs() const override {
    return 1;
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  void deviceSynchronize(c10::DeviceIndex) const override {}
};

// One operation's tensors as the CPU sees them, and the way back.
class Aliases {
 public:
  at::Tensor of(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) {
      return tensor;
    }
    at::Tensor alias;
    if (tensor.storage().nbytes() == 0) {  // perhaps an ``out`` that is to be resized
      alias = at::detail::empty_cpu(tensor.sizes(), tensor.scalar_type());
    } else {
      alias = with(storage_of(tensor), tensor, c10::DispatchKey::CPU);
    }
    pairs_.emplace_back(tensor, alias);
    return alias;
  }

  at::Tensor back(const at::Tensor& result) {
    if (!result.defined()) {
      return result;
    }
    for (auto& [tensor, alias] : pairs_) {
      if (alias.is_same(result)) {
        return tensor;
      }
    }
    auto found = originals_.find(result.storage().unsafeGetStorageImpl());
    if (found != originals_.end()) {
      return with(found->second, result, c10::DispatchKey::CUDA);  // a view
    }
    return with(copy_of(result), result, c10::DispatchKey::CUDA);
  }

  // What an operation has resized on the CPU gets memory here.
  void resize() {
    for (auto& [tensor, alias] : pairs_) {
      if (tensor.storage().nbytes() == 0 && alias.storage().nbytes() != 0) {
        auto made = copy_of(alias);
        auto* impl = tensor.unsafeGetTensorImpl();
        tensor.storage().unsafeGetStorageImpl()->set_nbytes(made.nbytes());
        tensor.storage().set_data_ptr(
            std::move(made.unsafeGetStorageImpl()->mutable_data_ptr()));
        impl->set_sizes_and_strides(alias.sizes(), alias.strides());
      }
    }
  }

 private:
  c10::Storage storage_of(const at::Tensor& tensor) {
    const auto& original = tensor.storage();
    auto& alias = aliases_[original.unsafeGetStorageImpl()];
    if (!alias) {
      alias = c10::Storage(
          c10::Storage::use_byte_size_t(),
          original.nbytes(),
          c10::DataPtr(original.mutable_data(), Device(DeviceType::CPU)),
          nullptr,
          /*resizable=*/false);
      originals_.emplace(alias.unsafeGetStorageImpl(), original);
    }
    return alias;
  }

  static c10::Storage copy_of(const at::Tensor& tensor) {
    size_t size_bytes = tensor.storage().nbytes();
    c10::Storage made(c10::Storage::use_byte_size_t(), size_bytes, &arena, /*resizable=*/true);
    if (size_bytes != 0) {
      std::memcpy(made.mutable_data(), tensor.storage().data(), size_bytes);
    }
    return made;
  }

  static at::Tensor with(c10::Storage storage, const at::Tensor& like, c10::DispatchKey key) {
    auto made = at::detail::make_tensor<c10::TensorImpl>(
        std::move(storage), c10::DispatchKeySet(key), like.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(
        like.sizes(), like.strides(), like.storage_offset());
    return made;
  }

  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> aliases_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> originals_;
};

template <typename Change>
c10::IValue changed(const c10::IValue& value, Change change) {
  if (value.isTensor()) {
    return change(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      list.push_back(change(tensor));
    }
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor ? std::optional<at::Tensor>(change(*tensor)) : std::nullopt);
    }
    return list;
  }
  if (value.isDevice()) {
    return Device(DeviceType::CPU);
  }
  return value;
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Aliases aliases;
  auto count = op.schema().arguments().size();
  for (size_t i = stack->size() - count; i < stack->size(); i++) {
    auto& value = (*stack)[i];
    value = changed(value, [&](const at::Tensor& tensor) { return aliases.of(tensor); });
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  aliases.resize();
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); i++) {
    auto& value = (*stack)[i];
    value = changed(value, [&](const at::Tensor& tensor) { return aliases.back(tensor); });
  }
}

const c10::DispatchKeySet kKeys(c10::DispatchKey::CUDA);

at::Tensor empty(
    c10::IntArrayRef size,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>,
    std::optional<Device>,
    std::optional<bool>,
    std::optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(
      size, &arena, kKeys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    c10::IntArrayRef size,
    c10::IntArrayRef stride,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>,
    std::optional<Device>,
    std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, &arena, kKeys, c10::dtype_or_default(dtype));
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool) {
  Aliases aliases;
  auto to = aliases.of(self);
  to.copy_(aliases.of(source));
  return self;
}

// The CPU's fused attention is none of the operations that this device has.
int64_t plain_attention(
    const at::Tensor&,
    const at::Tensor&,
    const at::Tensor&,
    const std::optional<at::Tensor>&,
    double,
    bool,
    std::optional<double>,
    bool) {
  return 0;
}

void record_stream(at::Tensor&, c10::Stream) {}

TORCH_LIBRARY_IMPL(_, CUDA, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("copy_", TORCH_FN(copy_));
  m.impl("_fused_sdp_choice", TORCH_FN(plain_attention));
  m.impl("record_stream", TORCH_FN(record_stream));
}

} // namespace

namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks);
} // namespace at

extern "C" void fakecuda_install(uint64_t (*take_)(uint64_t)) {
  take = take_;
  c10::SetAllocator(DeviceType::CUDA, &arena, 255);
  c10::impl::device_guard_impl_registry[static_cast<size_t>(DeviceType::CUDA)].store(&guard);
}

extern "C" void fakecuda_refuse(const char* why) {
  refusal = why;
}

// Writes up to ``room`` addresses and gives their number.
extern "C" size_t fakecuda_dead(uint64_t* addresses, size_t room) {
  std::lock_guard<std::mutex> guard(dead_mutex);
  size_t count = std::min(room, dead.size());
  for (size_t i = 0; i < count; i++) {
    addresses[i] = dead.front();
    dead.pop_front();
  }
  return count;
}
