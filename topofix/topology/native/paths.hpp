// The cheapest closed path through a voxel, among voxels that are allowed.
//
//      # # # # #        v closes a ring: the pieces of its surroundings, left and right of it, are connected
//      # . . . #        already, and the path that connects them at the least cost is looked for by Dijkstra's
//      # # + v #        algorithm, from one piece to any other.
//
// References: E. W. Dijkstra, "A note on two problems in connexion with graphs", Numerische Mathematik 1, 1959.

#pragma once

#include <queue>

#include "cube.hpp"

namespace topofix {

// Indices into an image of voxels that make the path, without the one that it is closed by; empty if there is
// none. Voxels at the border are not to be allowed. `corners`: voxels that share one are neighbours.
template <int Rank>
std::vector<std::int64_t> closed_path(const std::array<std::int64_t, Rank>& shape,
                                      const std::uint8_t* allowed, const float* costs, std::int64_t closing,
                                      bool corners) {
    std::array<std::int64_t, Rank> stride{};
    std::int64_t size = 1;
    for (int axis = Rank - 1; axis >= 0; --axis) {
        stride[axis] = size;
        size *= shape[axis];
    }
    const auto neighbour = [&](std::int64_t voxel, int code) {
        for (int axis = 0; axis < Rank; ++axis) voxel += (digit<Rank>(code, axis) - 1) * stride[axis];
        return voxel;
    };
    const Set reach = corners ? boundary<Rank> : faces<Rank>;
    Set near = 0;
    for (Set left = boundary<Rank>; left != 0; left &= left - 1)
        if (allowed[neighbour(closing, lowest(left))]) near |= only(lowest(left));
    const Pieces pieces = pieces_of<Rank>(corners ? cells_on<Rank>(near)
                                                  : boundary<Rank> & ~cells_on<Rank>(boundary<Rank> & ~near));
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr std::int64_t nowhere = -1;
    std::vector<double> distance(static_cast<std::size_t>(size));
    std::vector<std::int64_t> from(static_cast<std::size_t>(size)), best;
    double least = infinity;
    for (int piece = 0; piece + 1 < pieces.count; ++piece) {
        using Place = std::pair<double, std::int64_t>;
        std::priority_queue<Place, std::vector<Place>, std::greater<Place>> queue;
        std::fill(distance.begin(), distance.end(), infinity);
        const auto at = [](std::int64_t voxel) { return static_cast<std::size_t>(voxel); };
        for (Set left = pieces.piece[static_cast<std::size_t>(piece)] & near & reach; left != 0;
             left &= left - 1) {
            const std::int64_t voxel = neighbour(closing, lowest(left));
            distance[at(voxel)] = double(costs[voxel]);
            from[at(voxel)] = nowhere;
            queue.push({distance[at(voxel)], voxel});
        }
        std::vector<std::int64_t> ends;
        for (int other = piece + 1; other < pieces.count; ++other)
            for (Set left = pieces.piece[static_cast<std::size_t>(other)] & near & reach; left != 0;
                 left &= left - 1)
                ends.push_back(neighbour(closing, lowest(left)));
        while (!queue.empty() && queue.top().first < least) {
            const auto [sum, voxel] = queue.top();
            queue.pop();
            if (sum > distance[at(voxel)]) continue;
            if (std::find(ends.begin(), ends.end(), voxel) != ends.end()) {
                least = sum;
                best.clear();
                for (std::int64_t step = voxel; step != nowhere; step = from[at(step)]) best.push_back(step);
                break;
            }
            for (Set left = reach; left != 0; left &= left - 1) {
                const std::int64_t next = neighbour(voxel, lowest(left));
                if (next == closing || !allowed[next] || sum + double(costs[next]) >= distance[at(next)])
                    continue;
                distance[at(next)] = sum + double(costs[next]);
                from[at(next)] = voxel;
                queue.push({distance[at(next)], next});
            }
        }
    }
    return best;
}

}  // namespace topofix
