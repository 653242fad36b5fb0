// The critical voxels of a field, those whose entrance changes the topology, and where paths from them lead.
//
//        9 8 7 . 5 6       9 is born: none of its neighbours is there. 8 and 7 are simple points; 6 is born.
//        . . . 4 . .       5 touches 6 and is simple. 4 sees two pieces, {7} and {5}, and joins them: 6 ends.
//
// Only these are sorted: 2 in 100 voxels of a smooth field, half of white noise. A piece is known by any voxel
// of it, and from there one climbs, always to the earliest neighbour, to where a component was born: from {5} to
// 6, from {7} to 9. In the same way one falls through each gap, a piece of what is not there yet, always across
// a face to the latest neighbour, to where it is filled in the end, or to the outside. Where paths lead depends
// on no order, so they are followed as the voxels lie in memory, by all threads at once.

#pragma once

#include <numeric>

#include "field.hpp"

namespace topofix {

// The place of a critical voxel among all: by index at first, then as they enter.
using Order = std::uint32_t;

struct Critical {
    Voxel voxel;
    Set earlier;                          // neighbours
    std::uint8_t pieces, gaps;            // of L, and of the rest of the boundary
    std::uint32_t climbs = 0, falls = 0;  // where the ends of its paths stand in their lists
};

// Critical voxels by index.
template <int Rank, class T>
std::vector<Critical> find_critical(const Field<Rank, T>& field, int threads) {
    std::vector<std::vector<Critical>> parts(static_cast<std::size_t>(threads));
    const std::size_t blocks = (field.end() - field.begin() + 63) / 64;
    in_parallel(threads, [&](int worker) {
        std::vector<Critical>& found = parts[static_cast<std::size_t>(worker)];
        const auto [from, to] = share(blocks, worker, threads);
        for (std::size_t block = from; block < to; ++block) {
            const auto start = static_cast<Voxel>(field.begin() + 64 * block);
            const Word present = field.present_of_64(start);
            if (present == 0) continue;
            const auto words = field.earlier_neighbours_of_64(start);
            for (Word left = present & ~simple<Rank>(words); left != 0; left &= left - 1) {
                const int bit = lowest(left);
                Set earlier = 0;
                for (int code = 0; code < codes<Rank>; ++code) earlier |= Set(words[code] >> bit & 1) << code;
                const Set there = cells_on<Rank>(earlier), rest = boundary<Rank> & ~there;
                found.push_back({start + static_cast<Voxel>(bit), earlier,
                                 std::uint8_t(pieces_of<Rank>(there).count),
                                 std::uint8_t(pieces_of<Rank>(rest).count)});
            }
        }
    });
    std::vector<Critical> all = std::move(parts[0]);
    for (std::size_t part = 1; part < parts.size(); ++part)
        all.insert(all.end(), parts[part].begin(), parts[part].end());
    return all;
}

// For every voxel that a path went through, which critical voxel it leads to, plus 1; else 0. All paths
// agree, so it does not matter which thread is the first to write it.
using Trees = Zeros<std::atomic<std::uint32_t>>;

enum class Direction { up, down };

// Where paths lead from the pieces (up) or gaps (down) of critical voxels that have several: to the number of
// a critical voxel, or to their count for the outside. Critical voxels are numbered as they stand.
template <Direction direction, int Rank, class T>
std::vector<Order> ends_of_paths(const Field<Rank, T>& field, std::vector<Critical>& critical, Trees& trees,
                                 int threads) {
    constexpr bool up = direction == Direction::up;
    constexpr auto relaxed = std::memory_order_relaxed;
    const auto outside = static_cast<std::uint32_t>(critical.size() + 1);
    std::uint32_t size = 0;
    for (std::size_t i = 0; i < critical.size(); ++i) {
        const int ways = up ? critical[i].pieces : critical[i].gaps;
        (up ? critical[i].climbs : critical[i].falls) = size;
        if (ways == 0) trees[critical[i].voxel].store(static_cast<std::uint32_t>(i + 1), relaxed);
        if (ways > 1) size += static_cast<std::uint32_t>(ways);
    }
    std::vector<Order> ends(size);
    in_parallel(threads, [&](int worker) {
        std::vector<Voxel> path;
        const auto end_of_path = [&](typename Field<Rank, T>::When at) {
            std::uint32_t tree;
            path.clear();
            while ((tree = !up && at.never() ? outside : trees[at.voxel()].load(relaxed)) == 0) {
                path.push_back(at.voxel());
                at = up ? field.earliest_neighbour(at.voxel()) : field.latest_neighbour(at.voxel());
            }
            for (const Voxel passed : path) trees[passed].store(tree, relaxed);
            return tree - 1;
        };
        const auto [from, to] = share(critical.size(), worker, threads);
        for (std::size_t i = from; i < to; ++i) {
            const Critical& one = critical[i];
            if ((up ? one.pieces : one.gaps) < 2) continue;
            const Set there = cells_on<Rank>(one.earlier);
            const Pieces& ways = pieces_of<Rank>(up ? there : boundary<Rank> & ~there);
            for (int way = 0; way < ways.count; ++way) {
                const int towards = lowest(ways.piece[way] & (up ? one.earlier : faces<Rank>));
                ends[(up ? one.climbs : one.falls) + static_cast<std::size_t>(way)] =
                    end_of_path(field.when(field.neighbour(one.voxel, towards)));
            }
        }
    });
    return ends;
}

// The order in which critical voxels that stand by index enter: of each, its place.
template <int Rank, class T>
std::vector<Order> order_of_entrance(const std::vector<Critical>& critical, const Field<Rank, T>& field) {
    using Key = typename Field<Rank, T>::Key;
    using Number = std::make_unsigned_t<Key>;
    struct Numbered {
        Number number;  // ascends as the keys descend
        Order index;
    };
    std::vector<Numbered> sorted(critical.size()), moved(critical.size());
    for (std::size_t i = 0; i < critical.size(); ++i) {
        const auto key = static_cast<Number>(field.key(critical[i].voxel));
        sorted[i] = {static_cast<Number>(Number(std::numeric_limits<Key>::max()) - key),
                     static_cast<Order>(i)};
    }
    // Radix sort, byte by byte: it keeps ties as they are.
    for (std::size_t shift = 0; shift < 8 * sizeof(Key); shift += 8) {
        const auto byte = [shift](const Numbered& one) { return std::size_t(one.number >> shift) & 255; };
        std::array<std::size_t, 256> begin{};
        for (const Numbered& one : sorted) ++begin[byte(one)];
        if (!sorted.empty() && begin[byte(sorted[0])] == sorted.size()) continue;
        std::size_t sum = 0;
        for (std::size_t& place : begin) sum += std::exchange(place, sum);
        for (const Numbered& one : sorted) moved[begin[byte(one)]++] = one;
        sorted.swap(moved);
    }
    std::vector<Order> place(critical.size());
    for (std::size_t order = 0; order < sorted.size(); ++order)
        place[sorted[order].index] = static_cast<Order>(order);
    return place;
}

// Sets that grow together, each member pointing towards the one that the set is known by: union-find.
class Forest {
  public:
    explicit Forest(std::size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), Order(0)); }
    void grow(std::size_t size) {
        const auto from = static_cast<Order>(parent_.size());
        parent_.resize(size);
        std::iota(parent_.begin() + from, parent_.end(), from);
    }
    std::size_t size() const { return parent_.size(); }
    void plant(Order one, Order parent) { parent_[one] = parent; }
    Order root(Order one) {
        while (parent_[one] != one) {
            parent_[one] = parent_[parent_[one]];
            one = parent_[one];
        }
        return one;
    }

  private:
    std::vector<Order> parent_;
};

}  // namespace topofix
