// Counting a mask, without any persistence: its Betti numbers, and the voxels that could change sides.
//
//      # # . . # # #      row y - 1: runs {0, 1}, {4, 5, 6}
//      . . # # . . #      row y:     runs {2, 3}, {6}        {2, 3} touches both runs above if corners join,
//                                                            and joins them: 4 runs - 3 joints = 1 component
//
// Components are runs of voxels along the rows, less the joints between runs of neighbouring rows (union-find).
// Voids are components of the background but for the outside, which the margin holds together. In 3-D tunnels
// follow from the Euler characteristic, to which only critical voxels add: entering, a voxel with the cells L of its
// boundary there changes it by 1 - euler(L).
//
// References: A. Rosenfeld, J. L. Pfaltz, "Sequential operations in digital picture processing", J. ACM 13, 1966
// (components by rows). T. Y. Kong, A. Rosenfeld, "Digital topology: introduction and survey", CVGIP 48, 1989.

#pragma once

#include "critical.hpp"

namespace topofix {

// How many components the foreground of a field (26 or 8 neighbours) or its background (6 or 4) has, its margin
// included.
template <int Rank>
std::int64_t components(const Field<Rank, std::uint8_t>& mask, bool foreground) {
    struct Run {
        Voxel first, last;  // within their row
    };
    std::vector<Run> runs;
    std::vector<std::size_t> begin;  // of the runs of each row
    Forest forest(0);
    std::int64_t count = 0;
    const Voxel reach = foreground ? 1 : 0;  // how far corners let a run reach beyond its ends
    const auto join_with = [&](std::size_t row, std::ptrdiff_t before) {
        if (before < 0) return;
        const auto other = static_cast<std::size_t>(before);
        std::size_t a = begin[other];
        for (std::size_t b = begin[row]; b < runs.size(); ++b) {
            while (a < begin[other + 1] && runs[a].last + reach < runs[b].first) ++a;
            for (std::size_t next = a; next < begin[other + 1] && runs[next].first <= runs[b].last + reach;
                 ++next) {
                const auto [low, high] = std::minmax({forest.root(Order(next)), forest.root(Order(b))});
                if (low == high) continue;
                forest.plant(high, low);
                --count;
            }
        }
    };
    const auto rows_of_plane = static_cast<std::ptrdiff_t>(mask.rows_of_plane());
    for (std::size_t row = 0; row < mask.rows(); ++row) {
        begin.push_back(runs.size());
        mask.for_each_run(row, foreground, [&](Voxel first, Voxel last) { runs.push_back({first, last}); });
        forest.grow(runs.size());
        count += static_cast<std::int64_t>(runs.size() - begin[row]);
        const auto here = static_cast<std::ptrdiff_t>(row), place = here % rows_of_plane;
        begin.push_back(runs.size());  // where the runs of this row end, until the next row is there
        if (place > 0) join_with(row, here - 1);
        if constexpr (Rank == 3)
            for (std::ptrdiff_t step = foreground ? -1 : 0; step <= (foreground ? 1 : 0); ++step)
                if (place + step >= 0 && place + step < rows_of_plane)
                    join_with(row, here - rows_of_plane + step);
        begin.pop_back();
    }
    return count;
}

template <int Rank>
std::array<std::int64_t, Rank> betti(const Image<std::uint8_t>& image, Orientation orientation, int threads) {
    const Field<Rank, std::uint8_t> mask(image, orientation, threads);
    std::array<std::int64_t, Rank> counts{};
    in_parallel(std::min(threads, 2), [&](int worker) {
        if (worker == 0) counts[0] = components(mask, true);
        if (worker == 1 || threads == 1) counts[Rank - 1] = components(mask, false) - 1;
    });
    if constexpr (Rank == 3) {
        std::int64_t euler = 0;
        for (const Critical& one : find_critical(mask, threads))
            if (mask.foreground(one.voxel))
                euler += 1 - euler_characteristic<Rank>(cells_on<Rank>(one.earlier));
        counts[1] = counts[0] + counts[2] - euler;
    }
    if (orientation == Orientation::dual) {
        --counts[0];  // the frame
        std::reverse(counts.begin(), counts.end());
    }
    return counts;
}

// Where a mask could lose or gain a voxel without any change of its topology: found(index) for each such voxel.
template <int Rank, class Found>
void simple_points(const Image<std::uint8_t>& image, Orientation orientation, const Found& found) {
    const Field<Rank, std::uint8_t> mask(image, orientation, 1);
    for (Voxel start = mask.begin(); start < mask.end(); start += 64)
        for (Word left = simple<Rank>(mask.foreground_neighbours_of_64(start)); left != 0; left &= left - 1) {
            const std::int64_t index = mask.index_in_image(start + static_cast<Voxel>(lowest(left)));
            if (index >= 0) found(index);
        }
}

}  // namespace topofix
