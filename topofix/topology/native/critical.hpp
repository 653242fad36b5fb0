// The critical voxels of a field, those whose entrance changes the topology, and the trees that grow on them.
//
//        9 8 7 . 5 6       9 is born: none of its neighbours is there. 8 and 7 are simple points, and 6 is born.
//        . . . 4 . .       5 touches 6 and is simple. 4 sees two pieces, {7} and {5}, and joins them: 6 ends.
//
// Only these are sorted: 2 in 100 voxels of a smooth field, 20 of white noise. A piece is known by any voxel of
// it, and from there one climbs, always to the earliest neighbour, until a voxel whose tree is known.

#pragma once

#include "field.hpp"

namespace topofix {

using Order = std::uint32_t;  // the place of a critical voxel among all, as they enter

struct Critical {
    Voxel voxel;
    Set earlier;  // neighbours
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
            const auto earlier = field.earlier_neighbours_of_64(start);
            for (Word left = present & ~simple<Rank>(earlier); left != 0; left &= left - 1) {
                const int bit = lowest(left);
                Critical one{start + static_cast<Voxel>(bit), 0};
                for (int code = 0; code < codes<Rank>; ++code) one.earlier |= Set(earlier[code] >> bit & 1) << code;
                found.push_back(one);
            }
        }
    });
    std::vector<Critical> all = std::move(parts[0]);
    for (std::size_t part = 1; part < parts.size(); ++part) all.insert(all.end(), parts[part].begin(), parts[part].end());
    return all;
}

// Sorts critical voxels that stand by index into the order in which they enter.
template <int Rank, class T>
void sort_by_entrance(std::vector<Critical>& critical, const Field<Rank, T>& field) {
    using Key = typename Field<Rank, T>::Key;
    using Number = std::make_unsigned_t<Key>;
    struct Numbered {
        Number number;  // ascends as the keys descend
        Critical what;
    };
    std::vector<Numbered> sorted(critical.size()), moved(critical.size());
    for (std::size_t i = 0; i < critical.size(); ++i)
        sorted[i] = {static_cast<Number>(Number(std::numeric_limits<Key>::max()) - Number(field.key(critical[i].voxel))), critical[i]};
    for (std::size_t shift = 0; shift < 8 * sizeof(Key); shift += 8) {  // radix sort, byte by byte: it keeps ties as they are
        const auto byte = [shift](const Numbered& one) { return std::size_t(one.number >> shift) & 255; };
        std::array<std::size_t, 256> begin{};
        for (const Numbered& one : sorted) ++begin[byte(one)];
        if (!sorted.empty() && begin[byte(sorted[0])] == sorted.size()) continue;
        std::size_t sum = 0;
        for (std::size_t& place : begin) sum += std::exchange(place, sum);
        for (const Numbered& one : sorted) moved[begin[byte(one)]++] = one;
        sorted.swap(moved);
    }
    for (std::size_t i = 0; i < critical.size(); ++i) critical[i] = sorted[i].what;
}

// Sets that grow together, each member pointing towards the one that the set is known by: union-find.
class Forest {
  public:
    explicit Forest(std::size_t size) : parent_(size) {}
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

// For every voxel a member of the tree that it hangs on, as its order + 1; 0 as long as nobody has asked.
using Trees = Zeros<Order>;

// Follows `next` from a voxel to one whose tree is known, and remembers it for all on the path.
template <class Next>
Order follow(Voxel voxel, Trees& trees, std::vector<Voxel>& path, const Next& next) {
    path.clear();
    for (; trees[voxel] == 0; voxel = next(voxel)) path.push_back(voxel);
    for (const Voxel passed : path) trees[passed] = trees[voxel];
    return trees[voxel] - 1;
}

}  // namespace topofix
