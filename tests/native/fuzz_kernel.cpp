// What must hold of the kernel whatever it is given: `make fuzz`, under the address and undefined-behaviour
// sanitizers. A few bytes choose shape, type, strides and connectivity; the rest are values.
//
// Bars are held against masks: at any threshold, as many of them are alive as the superlevel set has components,
// tunnels and voids, and those are counted here by flooding and by the Euler characteristic, cell by cell.

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "../../topofix/topology/native/mask.hpp"
#include "../../topofix/topology/native/partition.hpp"
#include "../../topofix/topology/native/paths.hpp"
#include "../../topofix/topology/native/persistence.hpp"

using namespace topofix;

namespace {

void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

// The input, byte by byte; zeros behind its end.
class Bytes {
  public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
    unsigned next() { return left_ == 0 ? 0 : (--left_, *data_++); }
    unsigned below(unsigned limit) { return next() % limit; }
    template <class T>
    T raw() {
        std::array<std::uint8_t, sizeof(T)> bytes;
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(next());
        T value;
        std::memcpy(&value, bytes.data(), sizeof(T));
        return value;
    }

  private:
    const std::uint8_t* data_;
    std::size_t left_;
};

template <int Rank>
struct Grid {
    std::array<std::int64_t, Rank> shape{};

    // Often longer than the 64 voxels that the kernel looks at together.
    explicit Grid(Bytes& bytes) {
        for (int axis = 0; axis < Rank; ++axis)
            shape[std::size_t(axis)] =
                1 + bytes.below(axis < Rank - 1 ? (Rank == 2 ? 8 : 4) : (Rank == 2 ? 90 : 20));
    }
    std::int64_t size() const {
        std::int64_t product = 1;
        for (const std::int64_t side : shape) product *= side;
        return product;
    }
    std::array<std::int64_t, Rank> place(std::int64_t index) const {
        std::array<std::int64_t, Rank> at{};
        for (int axis = Rank - 1; axis >= 0; --axis) {
            at[std::size_t(axis)] = index % shape[std::size_t(axis)];
            index /= shape[std::size_t(axis)];
        }
        return at;
    }
    bool contains(const std::array<std::int64_t, Rank>& at) const {
        for (std::size_t axis = 0; axis < Rank; ++axis)
            if (at[axis] < 0 || at[axis] >= shape[axis]) return false;
        return true;
    }
    std::int64_t index(const std::array<std::int64_t, Rank>& at) const {
        std::int64_t sum = 0;
        for (std::size_t axis = 0; axis < Rank; ++axis) sum = sum * shape[axis] + at[axis];
        return sum;
    }
};

// The same values in C order, and as somebody may hand them over: axes in any order, backwards, with gaps.
template <int Rank, class T>
class Array {
  public:
    Array(const Grid<Rank>& grid, std::vector<T> values, Bytes& bytes)
        : grid_(grid), values_(std::move(values)) {
        std::array<int, Rank> order{};
        for (int axis = 0; axis < Rank; ++axis) order[std::size_t(axis)] = axis;
        const unsigned turns = bytes.next();
        for (int axis = Rank - 1; axis > 0; --axis)
            std::swap(order[std::size_t(axis)], order[(turns >> axis) % unsigned(axis + 1)]);
        const std::int64_t gap = 1 + std::int64_t(bytes.below(3));
        std::int64_t step = gap, first = 0;
        for (int k = Rank - 1; k >= 0; --k) {
            const auto axis = std::size_t(order[std::size_t(k)]);
            const bool backwards = turns >> (4 + k) & 1;
            stride_[axis] = backwards ? -step : step;
            if (backwards) first += step * (grid.shape[axis] - 1);
            step *= grid.shape[axis];
        }
        stored_.resize(std::size_t(step - gap + 1));
        first_ = std::size_t(first);
        for (std::int64_t v = 0; v < grid.size(); ++v) {
            std::int64_t at = first;
            for (std::size_t axis = 0; axis < Rank; ++axis) at += grid.place(v)[axis] * stride_[axis];
            stored_[std::size_t(at)] = values_[std::size_t(v)];
        }
    }
    const std::vector<T>& values() const { return values_; }
    Image<T> plain() const {
        Image<T> image{values_.data(), {1, 1, 1}, {}};
        std::int64_t step = sizeof(T);
        for (int axis = Rank - 1; axis >= 0; --axis) {
            image.shape[std::size_t(axis)] = grid_.shape[std::size_t(axis)];
            image.strides[std::size_t(axis)] = step;
            step *= grid_.shape[std::size_t(axis)];
        }
        return image;
    }
    Image<T> strided() const {
        Image<T> image = plain();
        image.data = &stored_[first_];
        for (std::size_t axis = 0; axis < Rank; ++axis)
            image.strides[axis] = stride_[axis] * std::int64_t(sizeof(T));
        return image;
    }

  private:
    Grid<Rank> grid_;
    std::vector<T> values_, stored_;
    std::array<std::int64_t, Rank> stride_{};
    std::size_t first_ = 0;
};

template <int Rank>
using Counts = std::array<std::int64_t, Rank>;

// Pieces of one side of a mask that lies in background, by flooding; corners join, or only faces.
template <int Rank>
std::int64_t pieces(const Grid<Rank>& grid, const std::vector<std::uint8_t>& mask, bool foreground,
                    bool corners) {
    Grid<Rank> wide = grid;
    for (std::int64_t& side : wide.shape) side += 2;
    std::vector<bool> todo(std::size_t(wide.size()));
    for (std::int64_t v = 0; v < wide.size(); ++v) {
        auto at = wide.place(v);
        for (std::int64_t& place : at) --place;
        todo[std::size_t(v)] = (grid.contains(at) && mask[std::size_t(grid.index(at))] != 0) == foreground;
    }
    std::int64_t count = 0;
    for (std::int64_t v = 0; v < wide.size(); ++v) {
        if (!todo[std::size_t(v)]) continue;
        ++count;
        std::vector<std::int64_t> front{v};
        todo[std::size_t(v)] = false;
        while (!front.empty()) {
            const auto from = wide.place(front.back());
            front.pop_back();
            for (int code = 0; code < codes<Rank>; ++code) {
                auto at = from;
                int moved = 0;
                for (int axis = 0; axis < Rank; ++axis) {
                    at[std::size_t(axis)] += digit<Rank>(code, axis) - 1;
                    moved += digit<Rank>(code, axis) != 1;
                }
                if (moved == 0 || (moved > 1 && !corners) || !wide.contains(at)) continue;
                const std::int64_t next = wide.index(at);
                if (!todo[std::size_t(next)]) continue;
                todo[std::size_t(next)] = false;
                front.push_back(next);
            }
        }
    }
    return count;
}

// Even cells less odd ones, of closed voxels, or where only faces join of the grid of their centres. A cell is a
// place in the doubled grid: odd where it extends along the axis (closed voxels), even where it does not.
template <int Rank>
std::int64_t euler(const Grid<Rank>& grid, const std::vector<std::uint8_t>& mask, bool full) {
    Grid<Rank> doubled = grid;
    for (std::int64_t& side : doubled.shape) side = 2 * side + (full ? 1 : -1);
    std::int64_t sum = 0;
    for (std::int64_t cell = 0; cell < doubled.size(); ++cell) {
        const auto at = doubled.place(cell);
        bool any = false, all = true;
        int dimension = 0;
        for (std::size_t axis = 0; axis < Rank; ++axis) dimension += at[axis] % 2 == 1;
        for (unsigned corner = 0; corner < 1u << Rank; ++corner) {
            auto voxel = at;
            for (std::size_t axis = 0; axis < Rank; ++axis)
                voxel[axis] = (at[axis] + (full ? -1 : 0) + std::int64_t(corner >> axis & 1)) / 2 -
                              (full && at[axis] == 0 && (corner >> axis & 1) == 0);
            const bool inside = grid.contains(voxel) && mask[std::size_t(grid.index(voxel))] != 0;
            any |= inside;
            all &= inside;
        }
        if (full ? any : all) sum += dimension % 2 == 0 ? 1 : -1;
    }
    return sum;
}

template <int Rank>
Counts<Rank> counted(const Grid<Rank>& grid, const std::vector<std::uint8_t>& mask, bool full) {
    Counts<Rank> counts{};
    counts[0] = pieces<Rank>(grid, mask, true, full);
    counts[Rank - 1] = pieces<Rank>(grid, mask, false, !full) - 1;
    const std::int64_t characteristic = euler<Rank>(grid, mask, full);
    if constexpr (Rank == 3) counts[1] = counts[0] + counts[2] - characteristic;
    std::int64_t alternating = 0;
    for (std::size_t k = 0; k < Rank; ++k) alternating += k % 2 == 0 ? counts[k] : -counts[k];
    expect(alternating == characteristic,
           "Betti numbers, by turns added and taken away, are the Euler characteristic");
    return counts;
}

Orientation orientation_of(bool full) { return full ? Orientation::primal : Orientation::dual; }

bool same(const std::vector<Bar>& some, const std::vector<Bar>& others) {
    return std::equal(some.begin(), some.end(), others.begin(), others.end(), [](const Bar& a, const Bar& b) {
        return a.dimension == b.dimension && a.birth == b.birth && a.death == b.death && a.length == b.length;
    });
}

template <int Rank, class T>
void fields(Bytes& bytes) {
    const Grid<Rank> grid(bytes);
    const bool full = bytes.below(2) == 0;
    const unsigned how = bytes.below(4);
    std::vector<T> values;
    for (std::int64_t v = 0; v < grid.size(); ++v)
        values.push_back(how == 0   ? T(bytes.below(3)) - T(1)
                         : how == 1 ? T(bytes.next()) / T(255)
                         : how == 2 ? T(bytes.next()) * std::numeric_limits<T>::denorm_min()
                                    : bytes.template raw<T>());
    const Array<Rank, T> array(grid, values, bytes);
    bool finite = true;
    for (const T value : values) finite &= std::isfinite(value);
    std::vector<Bar> bars;
    try {
        bars = Persistence<Rank, T>(array.plain(), orientation_of(full), 1).bars(0);
        expect(finite, "what is not finite is refused");
    } catch (const std::domain_error&) {
        expect(!finite, "only what is not finite is refused");
        return;
    }
    const int threads = 1 + int(bytes.below(3));
    expect(same(bars, Persistence<Rank, T>(array.strided(), orientation_of(full), threads).bars(0)),
           "neither strides nor threads change a bar");

    const auto value = [&](std::int64_t voxel) { return values[std::size_t(voxel)]; };
    const auto valid = [&](std::int64_t voxel) { return voxel >= 0 && voxel < grid.size(); };
    int endless = 0;
    for (std::size_t i = 0; i < bars.size(); ++i) {
        const Bar& bar = bars[i];
        expect(bar.dimension >= 0 && bar.dimension < Rank && valid(bar.birth), "a bar is born in a voxel");
        expect(bar.death == Bar::never || (valid(bar.death) && value(bar.birth) > value(bar.death)),
               "a bar dies later, at a lower value, or never");
        const double length =
            double(value(bar.birth)) - (bar.death == Bar::never ? 0 : double(value(bar.death)));
        expect(bar.length == length && length != 0, "a bar is as long as its values are apart");
        endless += bar.death == Bar::never;
        expect(i == 0 || bars[i - 1].dimension < bar.dimension || bars[i - 1] < bar, "bars are in order");
    }
    const T highest = *std::max_element(values.begin(), values.end());
    expect(endless == (highest != 0), "one bar never dies");

    const double least = double(bytes.next()) / 255;
    std::vector<Bar> long_ones;
    for (const Bar& bar : bars)
        if (least == 0 || bar.length >= least) long_ones.push_back(bar);
    expect(same(long_ones, Persistence<Rank, T>(array.plain(), orientation_of(full), 1).bars(least)),
           "short bars are left out, and no others");

    for (int turn = 0; turn < 2; ++turn) {
        const T threshold = values[(bytes.next() * 7 + bytes.next()) % values.size()];
        std::vector<std::uint8_t> mask;
        for (const T each : values) mask.push_back(each >= threshold);
        Counts<Rank> alive{};
        for (const Bar& bar : bars)
            alive[std::size_t(bar.dimension)] +=
                value(bar.birth) >= threshold && (bar.death == Bar::never || value(bar.death) < threshold);
        alive[0] += highest == 0;  // the bar that never dies has no length then
        expect(alive == counted<Rank>(grid, mask, full), "as many bars are alive as there are features");
    }
}

template <int Rank>
void masks(Bytes& bytes) {
    const Grid<Rank> grid(bytes);
    const bool full = bytes.below(2) == 0;
    const unsigned density = 1 + bytes.below(7);
    std::vector<std::uint8_t> mask;
    for (std::int64_t v = 0; v < grid.size(); ++v) mask.push_back(bytes.below(8) < density ? 255 : 0);
    const Array<Rank, std::uint8_t> array(grid, mask, bytes);
    const Counts<Rank> counts = counted<Rank>(grid, mask, full);
    expect(betti<Rank>(array.plain(), orientation_of(full), 1) == counts, "Betti numbers of a mask");
    expect(betti<Rank>(array.strided(), orientation_of(full), 1 + int(bytes.below(3))) == counts,
           "neither strides nor threads change Betti numbers");
    std::vector<bool> simple(mask.size());
    simple_points<Rank>(array.strided(), orientation_of(full), [&](std::int64_t index) {
        expect(index >= 0 && index < grid.size(), "a simple point is a voxel");
        simple[std::size_t(index)] = true;
    });
    for (int turn = 0; turn < 4; ++turn) {
        const std::size_t voxel = (bytes.next() * 7 + bytes.next()) % mask.size();
        std::vector<std::uint8_t> flipped = mask;
        flipped[voxel] = mask[voxel] == 0 ? 1 : 0;
        const bool unchanged = counted<Rank>(grid, flipped, full) == counts;
        expect(unchanged || !simple[voxel], "a simple point changes no Betti number");
    }
}

template <int Rank>
void partitions(Bytes& bytes) {
    using Bounds = typename Partition<Rank>::Bounds;
    constexpr int label_count = 4;
    const Grid<Rank> grid(bytes);
    const auto size = std::size_t(grid.size());
    const bool face = bytes.below(2) == 0;
    std::vector<Wish> wishes(1 + bytes.below(3));
    for (Wish& wish : wishes) {
        const unsigned region = 1 + bytes.below(7);  // of the labels 1, 2 and 3
        for (std::size_t label = 1; label < label_count; ++label)
            wish.holds[label] = region >> (label - 1) & 1;
        for (std::size_t k = 0; k < Rank; ++k) {
            wish.low[k] = std::int64_t(bytes.below(3));
            wish.high[k] = bytes.below(4) == 0 ? Wish::any : wish.low[k] + std::int64_t(bytes.below(2));
        }
    }
    std::vector<Label> labels(size);
    std::vector<float> costs(size * label_count);
    std::vector<std::uint8_t> frozen(size);
    for (Label& label : labels) label = Label(bytes.below(label_count));
    for (float& cost : costs) cost = float(bytes.below(32)) / 4;
    for (std::uint8_t& one : frozen) one = bytes.below(8) == 1;
    const auto counts_of = [&](const Wish& wish, const std::vector<Label>& now) {
        std::vector<std::uint8_t> mask;
        for (const Label label : now) mask.push_back(wish.holds[label]);
        return counted<Rank>(grid, mask, !face);
    };
    for (Wish& wish : wishes) {
        const Counts<Rank> counts = counts_of(wish, labels);
        std::copy(counts.begin(), counts.end(), wish.betti.begin());
    }
    Partition<Rank> partition(grid.shape, labels.data(), costs.data(), label_count, frozen.data(), wishes,
                              face);
    std::vector<Label> now(size);
    const auto check = [&](const Partition<Rank>& one, const char* what) {
        one.copy_labels(now.data());
        for (const Wish& wish : one.wishes()) {
            const Counts<Rank> counts = counts_of(wish, now);
            expect(std::equal(counts.begin(), counts.end(), wish.betti.begin()), what);
        }
    };
    for (unsigned turn = bytes.below(4); turn > 0; --turn) {
        const std::int64_t voxel = (bytes.next() * 7 + bytes.next()) % grid.size();
        const auto label = Label(bytes.below(label_count));
        partition.change(&voxel, &label, 1);
        check(partition, "Betti numbers are right after a change");
        expect(now[std::size_t(voxel)] == (frozen[std::size_t(voxel)] ? labels[std::size_t(voxel)] : label),
               "a voxel gets its label unless it is frozen");
    }
    const int region = int(bytes.below(unsigned(wishes.size())));
    Bounds bounds{float(bytes.below(16)) / 2, bytes.below(2) == 0, std::int64_t(bytes.below(5)) - 1, {}, 1e9};
    if (bounds.radius >= 0) bounds.centres.push_back(std::int64_t(bytes.next()) % grid.size());
    const std::int64_t error = partition.error();
    for (const Piece& piece : partition.sweep(region, bytes.below(2) == 0, bounds))
        partition.change(piece.voxels.data(), piece.labels.data(), piece.voxels.size());
    check(partition, "Betti numbers are right after a sweep");
    expect(partition.error() <= error, "a sweep makes nothing worse");
    partition.settle_to(labels.data());
    check(partition, "Betti numbers are right after settling");
    expect(partition.error() <= error, "settling makes nothing worse");
}

template <int Rank>
void paths(Bytes& bytes) {
    Grid<Rank> grid(bytes);
    for (std::int64_t& side : grid.shape) side += 2;  // so that there is an inside
    std::vector<std::uint8_t> allowed(std::size_t(grid.size()));
    std::vector<float> costs(allowed.size());
    std::vector<std::int64_t> inside;
    for (std::int64_t v = 0; v < grid.size(); ++v) {
        const auto at = grid.place(v);
        bool border = false;
        for (std::size_t axis = 0; axis < Rank; ++axis)
            border |= at[axis] == 0 || at[axis] == grid.shape[axis] - 1;
        if (border) continue;
        inside.push_back(v);
        allowed[std::size_t(v)] = bytes.below(4) > 0;
        costs[std::size_t(v)] = float(bytes.below(16));
    }
    const std::int64_t closing = inside[bytes.next() % inside.size()];
    const bool corners = bytes.below(2) == 0;
    auto path = closed_path<Rank>(grid.shape, allowed.data(), costs.data(), closing, corners);
    if (path.empty()) return;
    path.push_back(closing);
    for (std::size_t i = 0; i < path.size(); ++i) {
        const auto at = grid.place(path[i]), next = grid.place(path[(i + 1) % path.size()]);
        std::int64_t moved = 0, furthest = 0;
        for (std::size_t axis = 0; axis < Rank; ++axis) {
            moved += std::abs(at[axis] - next[axis]);
            furthest = std::max(furthest, std::abs(at[axis] - next[axis]));
        }
        expect(furthest == 1 && (corners || moved == 1), "a closed path goes from neighbour to neighbour");
        expect(i + 1 == path.size() || allowed[std::size_t(path[i])], "a path stays where it is allowed");
    }
}

template <int Rank>
void some(Bytes& bytes) {
    switch (bytes.below(6)) {
        case 0:
        case 1:
            return fields<Rank, float>(bytes);
        case 2:
            return fields<Rank, double>(bytes);
        case 3:
            return masks<Rank>(bytes);
        case 4:
            return partitions<Rank>(bytes);
        default:
            return paths<Rank>(bytes);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    bytes.below(2) == 0 ? some<2>(bytes) : some<3>(bytes);
    return 0;
}
