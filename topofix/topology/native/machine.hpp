// What the algorithms need of the machine: threads, and large arrays of zeros.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace topofix {

// Calls work(worker) for each number below `threads`, at the same time. Of what they throw, the first comes
// out.
template <class Work>
void in_parallel(int threads, const Work& work) {
    if (threads == 1) return work(0);
    std::vector<std::exception_ptr> errors(static_cast<std::size_t>(threads));
    const auto guarded = [&](int worker) {
        try {
            work(worker);
        } catch (...) {
            errors[static_cast<std::size_t>(worker)] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(errors.size());
    int started = 1;
    try {
        for (; started < threads; ++started) others.emplace_back(guarded, started);
    } catch (const std::system_error&) {
        // There are no more threads to be had: the shares of the missing ones are done here.
    }
    for (int worker = started; worker < threads; ++worker) guarded(worker);
    guarded(0);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

// A worker's share of 0, 1, ..., size - 1: from the first number to before the second.
inline std::pair<std::size_t, std::size_t> share(std::size_t size, int worker, int workers) {
    const auto part = static_cast<std::size_t>(worker), parts = static_cast<std::size_t>(workers);
    return {size * part / parts, size * (part + 1) / parts};
}

// An array of zeros whose pages cost nothing until they are touched, and little then.
template <class T>
class Zeros {
  public:
    explicit Zeros(std::size_t size) : data_(static_cast<T*>(std::calloc(size, sizeof(T)))) {
        if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        constexpr std::size_t page = 4096, large = std::size_t(4) << 20;
        if (size * sizeof(T) >= large) {
            const std::size_t before = (page - reinterpret_cast<std::uintptr_t>(data_.get()) % page) % page;
            madvise(reinterpret_cast<char*>(data_.get()) + before, size * sizeof(T) - before, MADV_HUGEPAGE);
        }
#endif
    }
    T& operator[](std::size_t index) { return data_.get()[index]; }
    const T& operator[](std::size_t index) const { return data_.get()[index]; }

  private:
    struct Free {
        void operator()(T* data) const { std::free(data); }
    };
    std::unique_ptr<T, Free> data_;
};

}  // namespace topofix
