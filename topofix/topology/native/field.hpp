// A field of values with a margin, and the order in which its voxels enter.
//
// Superlevel filtration: larger values enter first, and of equal values the one with the smaller index. Nobody
// sorts the field for that; neighbours are compared whenever it matters, as integers in the order of the values.
//
//      - - - - - - - -       -  the margin: less than every value, so that it never enters
//      - + + + + + + -
//      - + 5 8 7 1 + -       +  the frame, only where the order is turned round (`Orientation::dual`): more
//      - + + + + + + -          than every value, since the background around an image is there first of all
//      - - - - - - - -
//
// The dual of a field is its negative, read backwards: larger enters first and a smaller index breaks ties
// again, and the foreground of the one is the background of the other, step by step in reverse.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#if defined(__SSE2__) || defined(_M_X64)
#define TOPOFIX_SSE2
#include <emmintrin.h>
#endif

#include "cube.hpp"
#include "machine.hpp"

namespace topofix {

using Voxel = std::uint32_t;  // an index into the field with its margin

enum class Orientation { primal, dual };

// Somebody else's array of rank 2 or 3: strides in bytes, slowest axis first.
template <class T>
struct Image {
    const void* data;
    std::array<std::int64_t, 3> shape, strides;
};

// Floating-point numbers as integers in the same order: magnitude and sign become two's complement. Both
// zeros are 0, and the negative of a number is that of its integer.
template <class T, class Integer>
struct Ordered {
    using Key = Integer;
    static constexpr Key sign = std::numeric_limits<Key>::min();

    static Key encode(T value, Orientation orientation) {
        Key bits;
        std::memcpy(&bits, &value, sizeof(T));
        const Key magnitude = bits & ~sign;
        return (bits < 0) == (orientation == Orientation::primal) ? -magnitude : magnitude;
    }
    static double decode(Key key) {
        const Key bits = key < 0 ? -key : key;
        T magnitude;
        std::memcpy(&magnitude, &bits, sizeof(T));
        return key < 0 ? -double(magnitude) : double(magnitude);
    }
};

template <class T>
struct Encoding;
template <>
struct Encoding<float> : Ordered<float, std::int32_t> {
    static constexpr Key infinity = 0x7f800000;  // less than that of NaN
};
template <>
struct Encoding<double> : Ordered<double, std::int64_t> {
    static constexpr Key infinity = 0x7ff0000000000000;
};
template <>
struct Encoding<std::uint8_t> {  // a mask: foreground is 0 and background -1, in the dual the other way round
    using Key = std::int8_t;
    static Key encode(std::uint8_t value, Orientation orientation) {
        return (value != 0) == (orientation == Orientation::primal) ? Key(0) : Key(-1);
    }
};

// When a voxel enters, as something to compare: the larger, the later. In one number where there is room for
// value and index, since the inner loops spend their time comparing these.
template <class Key>
class Lateness {
    static_assert(sizeof(Key) <= 4);

  public:
    Lateness(Key value, Voxel voxel)
        : number_(std::uint64_t(latest - static_cast<std::uint32_t>(value)) << 32 | voxel) {}
    Voxel voxel() const { return static_cast<Voxel>(number_); }
    bool never() const { return number_ >> 32 == latest - static_cast<std::uint32_t>(least); }
    bool operator<(const Lateness& other) const { return number_ < other.number_; }
    bool operator==(const Lateness& other) const { return number_ == other.number_; }

  private:
    static constexpr Key least = std::numeric_limits<Key>::min();
    static constexpr auto latest = static_cast<std::uint32_t>(std::numeric_limits<Key>::max());
    std::uint64_t number_;
};

template <>
class Lateness<std::int64_t> {
  public:
    Lateness(std::int64_t value, Voxel voxel) : value_(value), voxel_(voxel) {}
    Voxel voxel() const { return voxel_; }
    bool never() const { return value_ == std::numeric_limits<std::int64_t>::min(); }
    bool operator<(const Lateness& other) const {
        return value_ != other.value_ ? value_ > other.value_ : voxel_ < other.voxel_;
    }
    bool operator==(const Lateness& other) const { return voxel_ == other.voxel_; }

  private:
    std::int64_t value_;
    Voxel voxel_;
};

template <int Rank, class T>
class Field {
  public:
    using Key = typename Encoding<T>::Key;
    using When = Lateness<Key>;

    Field(const Image<T>& image, Orientation orientation, int threads)
        : orientation_(orientation),
          margin_(orientation == Orientation::dual ? 2 : 1),
          keys_(lay_out(image)) {
        in_parallel(threads, [&](int worker) { copy(image, worker, threads); });
    }

    bool is_finite() const { return finite_; }
    std::size_t size() const { return size_; }
    Orientation orientation() const { return orientation_; }
    Key key(Voxel voxel) const { return keys_[voxel]; }
    double value(Voxel voxel) const { return Encoding<T>::decode(keys_[voxel]); }
    When when(Voxel voxel) const { return {keys_[voxel], voxel}; }
    bool foreground(Voxel voxel) const { return keys_[voxel] >= 0; }  // of a mask
    Voxel neighbour(Voxel voxel, int code) const { return static_cast<Voxel>(voxel + offset_[code]); }

    // The same for a code that the compiler knows: neighbours in a row then share their address.
    template <int code>
    Voxel neighbour(Voxel voxel) const {
        std::ptrdiff_t offset = digit<Rank>(code, Rank - 1) - 1;
        for (int axis = 0; axis < Rank - 1; ++axis) offset += (digit<Rank>(code, axis) - 1) * stride_[axis];
        return static_cast<Voxel>(voxel + offset);
    }

    // The neighbour that enters first of all.
    When earliest_neighbour(Voxel voxel) const { return extreme<boundary<Rank>, true>(voxel); }

    // The neighbour across a face that enters last of all.
    When latest_neighbour(Voxel voxel) const { return extreme<faces<Rank>, false>(voxel); }

    Set earlier_neighbours(Voxel voxel) const {
        return earlier_neighbours(voxel, std::make_integer_sequence<int, codes<Rank>>());
    }

    // From the first voxel of the image to one behind the last; margins lie between, too.
    Voxel begin() const { return static_cast<Voxel>(-offset_[0]); }
    Voxel end() const { return static_cast<Voxel>(static_cast<std::ptrdiff_t>(size_) + offset_[0]); }

    // For 64 voxels from `start` on: where each neighbour is earlier.
    std::array<Word, codes<Rank>> earlier_neighbours_of_64(Voxel start) const {
        std::array<Word, codes<Rank>> words;
        const Key* here = &keys_[start];
        for (int code = 0; code < centre<Rank>; ++code) words[code] = ~greater(here, here + offset_[code]);
        words[centre<Rank>] = 0;
        for (int code = centre<Rank> + 1; code < codes<Rank>; ++code)
            words[code] = greater(here + offset_[code], here);
        return words;
    }

    // For 64 voxels from `start` on: which enter at all.
    Word present_of_64(Voxel start) const { return greater(&keys_[start], &repeated<no_voxel>[0]); }

    // For 64 voxels of a mask from `start` on: which neighbours are foreground.
    std::array<Word, codes<Rank>> foreground_neighbours_of_64(Voxel start) const {
        std::array<Word, codes<Rank>> words{};
        for (const int code : members<boundary<Rank>>)
            words[code] = greater(&keys_[start] + offset_[code], &repeated<Key(-1)>[0]);
        return words;
    }

    // Rows of the field, and of one plane of it, margins included.
    std::size_t rows() const { return size_ / static_cast<std::size_t>(width()); }
    std::size_t rows_of_plane() const {
        return Rank == 2 ? rows() : static_cast<std::size_t>(shape_[Rank - 2] + 2 * margin_);
    }

    // Calls run(first, last) for each run of foreground, or of background, of a mask's row; a place counts from
    // the beginning of the row.
    template <class Run>
    void for_each_run(std::size_t row, bool foreground, const Run& run) const {
        const auto end = static_cast<Voxel>(width());
        const Key* keys = &keys_[row * end];
        Voxel first = end;
        for (Voxel block = 0; block < end; block += 64) {
            const Word there = greater(keys + block, &repeated<Key(-1)>[0]);
            const Voxel left = std::min<Voxel>(64, end - block);
            const Word inside = left == 64 ? ~Word(0) : (Word(1) << left) - 1;
            const Word some = (foreground ? there : ~there) & inside;
            const Word before = some << 1 | Word(first != end);
            for (Word edges = (some ^ before) & inside; edges != 0; edges &= edges - 1) {
                const Voxel place = block + static_cast<Voxel>(lowest(edges));
                if (first == end) {
                    first = place;
                } else {
                    run(first, place - 1);
                    first = end;
                }
            }
        }
        if (first != end) run(first, end - 1);
    }

    // Where a voxel lies in the image, as a flat C-order index; -1 in the frame.
    std::int64_t index_in_image(Voxel voxel) const {
        std::int64_t index = 0;
        for (int axis = 0; axis < Rank; ++axis) {
            const auto stride = static_cast<Voxel>(stride_[axis]);
            std::int64_t place = std::int64_t(voxel / stride) - margin_;
            voxel %= stride;
            if (place < 0 || place >= shape_[axis]) return -1;
            if (orientation_ == Orientation::dual) place = shape_[axis] - 1 - place;
            index = index * shape_[axis] + place;
        }
        return index;
    }

  private:
    static constexpr Key no_voxel = std::numeric_limits<Key>::min(), frame = std::numeric_limits<Key>::max();
    template <Key content>
    static constexpr std::array<Key, 64> repeated = [] {
        std::array<Key, 64> keys{};
        for (Key& key_ : keys) key_ = content;
        return keys;
    }();
    static constexpr std::size_t slack = 64;  // keys behind the last one that may be read, though not used

    std::ptrdiff_t width() const { return shape_[Rank - 1] + 2 * margin_; }

    // Shape, strides and offsets; returns the number of keys.
    std::size_t lay_out(const Image<T>& image) {
        double voxels = double(slack);
        for (int axis = 0; axis < Rank; ++axis) shape_[axis] = image.shape[axis];
        for (int axis = 0; axis < Rank; ++axis) voxels *= double(shape_[axis] + 2 * margin_);
        if (voxels / double(slack) > double(std::numeric_limits<Voxel>::max() - slack))
            throw std::length_error("expected fewer than 4,294,967,232 voxels, a margin included");
        std::ptrdiff_t stride = 1;
        for (int axis = Rank - 1; axis >= 0; --axis) {
            stride_[axis] = stride;
            stride *= shape_[axis] + 2 * margin_;
        }
        size_ = static_cast<std::size_t>(stride);
        for (int code = 0; code < codes<Rank>; ++code) {
            offset_[code] = 0;
            for (int axis = 0; axis < Rank; ++axis)
                offset_[code] += (digit<Rank>(code, axis) - 1) * stride_[axis];
        }
        return size_ + slack;
    }

    // Fills one worker's share of the rows, margins included.
    void copy(const Image<T>& image, int worker, int workers) {
        const std::ptrdiff_t width = this->width();
        const auto [first, last] = share(rows(), worker, workers);
        for (std::size_t row = first; row < last; ++row) {
            Key* to = &keys_[row * static_cast<std::size_t>(width)];
            const char* from = static_cast<const char*>(image.data);
            bool inside = true, framed = margin_ == 2;
            auto rest = static_cast<std::ptrdiff_t>(row);
            for (int axis = Rank - 2; axis >= 0; --axis) {
                const std::ptrdiff_t side = shape_[axis] + 2 * margin_;
                std::ptrdiff_t place = rest % side - margin_;
                rest /= side;
                inside = inside && place >= 0 && place < shape_[axis];
                framed = framed && place >= -1 && place <= shape_[axis];
                if (orientation_ == Orientation::dual) place = shape_[axis] - 1 - place;
                from += place * image.strides[axis];
            }
            std::fill(to + 1, inside ? to + margin_ : to + width - 1, framed ? frame : no_voxel);
            if (framed) to[width - 2] = frame;
            to[0] = to[width - 1] = no_voxel;
            if (inside && !copy_row(from, image.strides[Rank - 1], to + margin_)) finite_ = false;
        }
        if (worker == workers - 1) std::fill(&keys_[size_], &keys_[size_] + slack, no_voxel);
    }

    // Copies a row, or its mirrored negative; returns whether all of it is finite.
    bool copy_row(const char* from, std::ptrdiff_t stride, Key* to) const {
        const std::ptrdiff_t side = shape_[Rank - 1];
        const auto key = [from](std::ptrdiff_t byte, Orientation orientation) {
            T value;
            std::memcpy(&value, from + byte, sizeof(T));  // whatever its alignment
            return Encoding<T>::encode(value, orientation);
        };
        if (orientation_ == Orientation::dual)
            for (std::ptrdiff_t x = 0; x < side; ++x) to[side - 1 - x] = key(x * stride, Orientation::dual);
        else if (stride == sizeof(T))  // a loop of its own, which vectorises
            for (std::ptrdiff_t x = 0; x < side; ++x)
                to[x] = key(x * std::ptrdiff_t(sizeof(T)), Orientation::primal);
        else
            for (std::ptrdiff_t x = 0; x < side; ++x) to[x] = key(x * stride, Orientation::primal);
        if constexpr (std::is_floating_point_v<T>) {
            Key infinite = 0;
            for (std::ptrdiff_t x = 0; x < side; ++x)
                infinite |= Key(to[x] >= Encoding<T>::infinity) | Key(to[x] <= -Encoding<T>::infinity);
            return infinite == 0;
        }
        return true;
    }

    template <int... code>
    Set earlier_neighbours(Voxel voxel, std::integer_sequence<int, code...>) const {
        const Key here = keys_[voxel];
        const auto earlier = [here](Key there, int which) {
            return Set(which < centre<Rank> ? there >= here : there > here) << which;
        };
        return (earlier(keys_[neighbour<code>(voxel)], code) | ...);  // the centre is not earlier than itself
    }

    // The first or last to enter of some neighbours, by knock-out, so that comparisons need not wait for each
    // other.
    template <Set some, bool first, std::size_t from = 0, std::size_t to = members<some>.size()>
    When extreme(Voxel voxel) const {
        if constexpr (to - from == 1) {
            return when(neighbour<members<some>[from]>(voxel));
        } else {
            const When a = extreme<some, first, from, (from + to) / 2>(voxel);
            const When b = extreme<some, first, (from + to) / 2, to>(voxel);
            return (a < b) == first ? a : b;
        }
    }

    // Where a > b, for 64 keys each.
    static Word greater(const Key* a, const Key* b) {
        Word word = 0;
#ifdef TOPOFIX_SSE2
        const auto load = [](const Key* keys) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(keys));
        };
        if constexpr (sizeof(Key) == 4) {
            for (int i = 0; i < 64; i += 16) {
                const auto four = [&](int k) { return _mm_cmpgt_epi32(load(a + i + k), load(b + i + k)); };
                const __m128i low = _mm_packs_epi32(four(0), four(4)),
                              high = _mm_packs_epi32(four(8), four(12));
                word |= Word(static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(low, high)))) << i;
            }
            return word;
        } else if constexpr (sizeof(Key) == 1) {
            for (int i = 0; i < 64; i += 16)
                word |=
                    Word(static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpgt_epi8(load(a + i), load(b + i)))))
                    << i;
            return word;
        }
#endif
        unsigned char flags[64];
        for (int i = 0; i < 64; ++i) flags[i] = a[i] > b[i];
        for (int i = 0; i < 64; i += 8) {
            Word eight = 0;
            for (int k = 0; k < 8; ++k) eight |= Word(flags[i + k]) << 8 * k;
            word |= (eight * 0x0102040810204080u >> 56) << i;  // collects the lowest bits of eight bytes
        }
        return word;
    }

    Orientation orientation_;
    std::ptrdiff_t margin_;
    std::array<std::ptrdiff_t, Rank> shape_, stride_;
    std::array<std::ptrdiff_t, codes<Rank>> offset_;
    std::size_t size_ = 0;
    std::atomic<bool> finite_{true};
    Zeros<Key> keys_;
};

}  // namespace topofix
