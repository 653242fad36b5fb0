// Persistent homology of the superlevel filtration of an image, and the Betti numbers of a mask.
//
// Dimension 0: union-find. A voxel that sees several pieces joins their components, and all but the oldest end.
// Top dimension: the same on the background, backwards (Alexander duality). Seen from the end, a voxel that sees
// several pieces of background joins them; seen forwards it divides them, that is, it makes a void, which ends where
// the background of it had begun.
// Dimension 1 in 3-D is in loops.hpp; in 2-D it is the top dimension.
// `face` connectivity is `full` connectivity of the dual field (field.hpp) with birth and death exchanged.
//
// References: H. Edelsbrunner, J. Harer, "Computational Topology", AMS 2010, chapter VII. A. Garin, T. Heiss, K.
// Maggs, B. Bleile, V. Robins, "Duality in persistent homology of images", SoCG 2020.

#pragma once

#include "loops.hpp"

namespace topofix {

struct Bar {
    static constexpr std::int64_t never = -1;

    double length;  // an essential bar's is its birth
    std::int64_t birth, death;  // flat C-order indices into the image
    int dimension;

    // Within a dimension: from long to short, then by birth.
    bool operator<(const Bar& other) const {
        if (length != other.length) return length > other.length;
        return birth != other.birth ? birth < other.birth : death < other.death;
    }
};

// Whether every value of an image is finite, and if so its bars and its Betti numbers.
template <int Rank, class T>
class Persistence {
  public:
    Persistence(const Image<T>& image, Orientation orientation, int threads)
        : field_(image, orientation, threads), threads_(threads) {
        if (!field_.is_finite()) throw std::domain_error("expected finite values");
        critical_ = find_critical(field_, threads);
        sort_by_entrance(critical_, field_);
    }

    // By dimension, then from long to short, then by birth.
    std::vector<Bar> bars(double min_persistence) {
        std::array<std::vector<Bar>, Rank> found;
        const auto add_to = [&](int dimension) {
            return [&, dimension](Voxel birth, Voxel death) {
                const Bar bar = bar_of_image(dimension, birth, death);
                if (bar.length == 0) return;
                if (bar.length >= min_persistence || min_persistence == 0) found[bar.dimension].push_back(bar);
            };
        };
        Trees trees(field_.size());
        std::vector<Set> starts;
        std::vector<Column> columns;
        at_once([&] { starts = components(trees, add_to(0)); }, [&] { columns = voids(add_to(Rank - 1)); });
        if (field_.orientation() == Orientation::primal) add_to(0)(critical_[0].voxel, endless);
        if constexpr (Rank == 3) {
            const Starts<T> numbered(field_, critical_, std::move(starts));
            Loops<T>(field_, critical_, trees, numbered, columns).reduce(threads_, add_to(1));
        }
        std::vector<Bar> all;
        for (std::vector<Bar>& some : found) {
            std::sort(some.begin(), some.end());
            all.insert(all.end(), some.begin(), some.end());
        }
        return all;
    }

    // Of a mask: what is there when all of the foreground has entered and none of the background has.
    std::array<std::int64_t, Rank> betti() {
        std::array<std::int64_t, Rank> counts{};
        std::int64_t euler = 0, joined = 0, enclosed = 0;
        for (const auto& [voxel, earlier] : critical_) {
            if (!field_.foreground(voxel)) break;
            counts[0] += earlier == 0;
            euler += 1 - euler_characteristic<Rank>(cells_on<Rank>(earlier));
        }
        Trees trees(field_.size());
        at_once([&] { components(trees, [&](Voxel, Voxel end) { joined += field_.foreground(end); }); },
                [&] { voids([&](Voxel begin, Voxel end) { enclosed += field_.foreground(begin) && !field_.foreground(end); }); });
        counts[0] -= joined;
        counts[Rank - 1] = enclosed;
        if constexpr (Rank == 3) counts[1] = counts[0] + counts[2] - euler;
        if (field_.orientation() == Orientation::dual) {
            --counts[0];  // the frame
            std::reverse(counts.begin(), counts.end());
        }
        return counts;
    }

  private:
    static constexpr Voxel endless = std::numeric_limits<Voxel>::max();

    template <class Low, class High>
    void at_once(const Low& low, const High& high) const {
        if (threads_ == 1) {
            low();
            high();
        } else {
            in_parallel(2, [&](int worker) { worker == 0 ? low() : high(); });
        }
    }

    // A pair of voxels of the field as a bar of the image.
    Bar bar_of_image(int dimension, Voxel birth, Voxel death) const {
        const std::int64_t begin = field_.index_in_image(birth), end = death == endless ? Bar::never : field_.index_in_image(death);
        if (field_.orientation() == Orientation::primal)
            return {field_.value(birth) - (death == endless ? 0 : field_.value(death)), begin, end, dimension};
        // Read backwards, a bar begins where it ends. The frame, a sphere, is filled by the image's first voxel, and so
        // the bar of that voxel never dies.
        return {(begin < 0 ? 0 : field_.value(birth)) - field_.value(death), end, begin < 0 ? Bar::never : begin, Rank - 1 - dimension};
    }

    // Calls pair(birth, death) for every component that ends; returns the edges that begin loops, for each critical
    // voxel (in 3-D). In `trees` every critical voxel that joins or is born hangs on itself.
    template <class Pair>
    std::vector<Set> components(Trees& trees, const Pair& pair) {
        Forest forest(critical_.size());
        std::vector<Voxel> path;
        std::vector<Set> starts(Rank == 3 ? critical_.size() : 0);
        const auto up = [this](Voxel voxel) { return field_.earliest_neighbour(voxel).voxel(); };
        for (Order order = 0; order < critical_.size(); ++order) {
            const auto [voxel, earlier] = critical_[order];
            if (earlier == 0) {
                forest.plant(order, order);
                trees[voxel] = order + 1;
                continue;
            }
            const Set there = cells_on<Rank>(earlier);
            const Pieces pieces = Pieces::of<Rank>(there);
            if (pieces.count == 1) continue;
            std::array<Order, 8> tree{};
            for (int i = 0; i < pieces.count; ++i)
                tree[i] = follow(field_.neighbour(voxel, lowest(earlier & pieces.piece[i])), trees, path, up);
            Bridges joins;
            if constexpr (Rank == 3) joins = bridges(pieces, boundary<3> & ~there);
            else
                for (int i = 1; i < pieces.count; ++i) joins.bridge[joins.count++] = {0, 0, i};
            for (int i = 0; i < joins.count; ++i) {
                const Bridge& join = joins.bridge[i];
                const auto [older, younger] = std::minmax({forest.root(tree[join.from]), forest.root(tree[join.to])});
                if (older == younger) {
                    if constexpr (Rank == 3) starts[order] |= only(join.edge);
                    continue;
                }
                forest.plant(younger, older);
                pair(critical_[younger].voxel, voxel);
            }
            forest.plant(order, forest.root(tree[0]));
            trees[voxel] = order + 1;
        }
        return starts;
    }

    // Calls pair(birth, death) for every void; returns the faces that end loops, in
    // the order in which they enter (in 3-D).
    template <class Pair>
    std::vector<Column> voids(const Pair& pair) {
        const auto outside = static_cast<Order>(critical_.size());
        Forest forest(critical_.size() + 1);
        forest.plant(outside, outside);
        Trees trees(field_.size());
        std::vector<Voxel> path;
        std::vector<Column> columns;
        const auto reach = [&](typename Field<Rank, T>::When there) {
            if (there.never()) trees[there.voxel()] = outside + 1;
            return there.voxel();
        };
        const auto down = [&](Voxel voxel) { return reach(field_.latest_neighbour(voxel)); };
        for (Order order = outside; order-- > 0;) {
            const auto [voxel, earlier] = critical_[order];
            const Set rest = boundary<Rank> & ~cells_on<Rank>(earlier);
            if (rest == 0) {
                forest.plant(order, order);
                trees[voxel] = order + 1;
                continue;
            }
            const Pieces pieces = Pieces::of<Rank>(rest);
            if (pieces.count == 1) continue;
            std::array<Order, 8> tree{};
            for (int i = 0; i < pieces.count; ++i) {
                const Voxel next = field_.neighbour(voxel, lowest(pieces.piece[i] & faces<Rank>));
                tree[i] = follow(reach(field_.when(next)), trees, path, down);
            }
            for (int i = pieces.count - 1; i > 0; --i) {
                const auto [earlier_end, later_end] = std::minmax({forest.root(tree[i]), forest.root(tree[0])});
                if (earlier_end == later_end) {
                    if constexpr (Rank == 3) columns.push_back({order, pieces.piece[i]});
                    continue;
                }
                forest.plant(earlier_end, later_end);
                pair(voxel, critical_[earlier_end].voxel);
            }
            forest.plant(order, forest.root(tree[0]));
            trees[voxel] = order + 1;
        }
        std::reverse(columns.begin(), columns.end());
        return columns;
    }

    Field<Rank, T> field_;
    std::vector<Critical> critical_;
    int threads_;
};

// Where a mask could lose or gain a voxel without any change of its topology: found(index) for each such voxel.
template <int Rank, class Found>
void simple_points(const Image<std::uint8_t>& mask, Orientation orientation, const Found& found) {
    const Field<Rank, std::uint8_t> field(mask, orientation, 1);
    for (Voxel start = field.begin(); start < field.end(); start += 64)
        for (Word left = simple<Rank>(field.foreground_neighbours_of_64(start)); left != 0; left &= left - 1)
            if (const std::int64_t index = field.index_in_image(start + static_cast<Voxel>(lowest(left))); index >= 0) found(index);
}

}  // namespace topofix
