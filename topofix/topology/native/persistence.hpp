// Persistent homology of the superlevel filtration of an image.
//
// Dimension 0: union-find. A voxel that sees several pieces joins their components; all but the oldest end.
// Top dimension: the same on the background, backwards (Alexander duality). Seen from the end, a voxel that sees
// several gaps joins pieces of background; seen forwards it divides them, that is, it makes a void, which ends at
// the latest voxel of the background that it closed in.
// Dimension 1 in 3-D is in loops.hpp; in 2-D it is the top dimension.
//
// `face` connectivity is `full` connectivity of the dual field (field.hpp) with birth and death exchanged.
//
// References: H. Edelsbrunner, J. Harer, "Computational Topology", AMS 2010, chapter VII. A. Garin, T. Heiss, K.
// Maggs, B. Bleile, V. Robins, "Duality in persistent homology of images", SoCG 2020.

#pragma once

#include "loops.hpp"

namespace topofix {

struct Bar {
    static constexpr std::int64_t never = -1;

    double length;              // an essential bar's is its birth
    std::int64_t birth, death;  // flat C-order indices into the image
    int dimension;

    // Within a dimension: from long to short, then by birth.
    bool operator<(const Bar& other) const {
        if (length != other.length) return length > other.length;
        return birth != other.birth ? birth < other.birth : death < other.death;
    }
};

// The stages from an image to its bars; an image that is not finite is refused.
template <int Rank, class T>
class Persistence {
  public:
    Persistence(const Image<T>& image, Orientation orientation, int threads)
        : field_(image, orientation, threads), threads_(threads), trees_(field_.size()) {
        if (!field_.is_finite()) throw std::domain_error("expected finite values");
        by_index_ = find_critical(field_, threads);
        place_ = order_of_entrance(by_index_, field_);
        climbs_ = ends_of_paths<Direction::up>(field_, by_index_, trees_, threads);
        arrange(climbs_);
    }

    // By dimension, then from long to short, then by birth.
    std::vector<Bar> bars(double min_persistence) {
        std::array<std::vector<Bar>, Rank> found;
        const auto add_to = [&](int dimension) {
            return [&, dimension](Voxel birth, Voxel death) {
                const Bar bar = bar_of_image(dimension, birth, death);
                if (bar.length == 0) return;
                if (bar.length >= min_persistence || min_persistence == 0)
                    found[bar.dimension].push_back(bar);
            };
        };
        auto [starts, columns] = join(add_to(0), add_to(Rank - 1));
        if (field_.orientation() == Orientation::primal) add_to(0)(critical_[0].voxel, endless);
        if constexpr (Rank == 3) {
            const Starts<T> numbered(field_, critical_, std::move(starts));
            Loops<T>(field_, critical_, trees_, numbered, columns).reduce(threads_, add_to(1));
        }
        std::vector<Bar> all;
        for (std::vector<Bar>& some : found) {
            std::sort(some.begin(), some.end());
            all.insert(all.end(), some.begin(), some.end());
        }
        return all;
    }

  private:
    static constexpr Voxel endless = std::numeric_limits<Voxel>::max();

    // Critical voxels as they enter, and the ends of paths by that order.
    void arrange(std::vector<Order>& ends) {
        const auto outside = static_cast<Order>(by_index_.size());
        critical_.resize(outside);
        for (std::size_t i = 0; i < outside; ++i) critical_[place_[i]] = by_index_[i];
        for (Order& end : ends) end = end == outside ? outside : place_[end];
    }

    // Calls ended(birth, death) for every component that ends and filled(birth, death) for every void;
    // returns, for 3-D, the edges of each critical voxel that begin loops, and the faces that end loops, as
    // they enter.
    template <class Ended, class Filled>
    std::pair<std::vector<Set>, std::vector<Column>> join(const Ended& ended, const Filled& filled) {
        std::pair<std::vector<Set>, std::vector<Column>> found;
        // In the plane, a voxel that joins components divides no background: edges outside a spanning tree
        // span the dual graph. So half of the ways down are spared.
        if constexpr (Rank == 2) {
            found.first = components(ended);
            for (std::size_t i = 0; i < by_index_.size(); ++i)
                if (by_index_[i].gaps > 1 && found.first[place_[i]] == 0) by_index_[i].gaps = 1;
        }
        {
            Trees trees(field_.size());
            falls_ = ends_of_paths<Direction::down>(field_, by_index_, trees, threads_);
        }
        arrange(falls_);
        if constexpr (Rank == 2) {
            found.second = voids(filled);
        } else {
            in_parallel(std::min(threads_, 2), [&](int worker) {
                if (worker == 0) found.first = components(ended);
                if (worker == 1 || threads_ == 1) found.second = voids(filled);
            });
        }
        return found;
    }

    // A pair of voxels of the field as a bar of the image.
    Bar bar_of_image(int dimension, Voxel birth, Voxel death) const {
        const std::int64_t begin = field_.index_in_image(birth),
                           end = death == endless ? Bar::never : field_.index_in_image(death);
        if (field_.orientation() == Orientation::primal)
            return {field_.value(birth) - (death == endless ? 0 : field_.value(death)), begin, end,
                    dimension};
        // Read backwards, a bar begins where it ends. The frame, a sphere, is filled by the image's first
        // voxel, and so the bar of that voxel never dies.
        return {(begin < 0 ? 0 : field_.value(birth)) - field_.value(death), end,
                begin < 0 ? Bar::never : begin, Rank - 1 - dimension};
    }

    // Returns the edges of each critical voxel that join no components, and has such voxels be their own
    // trees.
    template <class Pair>
    std::vector<Set> components(const Pair& pair) {
        Forest forest(critical_.size());
        std::vector<Set> starts(critical_.size());
        for (Order order = 0; order < critical_.size(); ++order) {
            const Critical& one = critical_[order];
            if (one.pieces < 2) continue;
            const Order* ends = &climbs_[one.climbs];
            Bridges bridges;
            if constexpr (Rank == 3) bridges = Bridges::of(one.earlier);
            for (int i = 0; i < one.pieces - 1; ++i) {
                const Bridge bridge = Rank == 3 ? bridges.bridge[i] : Bridge{0, 0, i + 1};
                const auto [older, younger] =
                    std::minmax({forest.root(ends[bridge.from]), forest.root(ends[bridge.to])});
                if (older == younger) {
                    starts[order] |= only(bridge.edge);
                    continue;
                }
                forest.plant(younger, older);
                pair(critical_[younger].voxel, one.voxel);
            }
            if (Rank == 3 && starts[order] != 0)
                trees_[one.voxel].store(order + 1, std::memory_order_relaxed);
        }
        return starts;
    }

    // Returns the faces that make no void.
    template <class Pair>
    std::vector<Column> voids(const Pair& pair) {
        Forest forest(critical_.size() + 1);  // the outside included
        std::vector<Column> columns;
        for (auto order = static_cast<Order>(critical_.size()); order-- > 0;) {
            const Critical& one = critical_[order];
            if (one.gaps < 2) continue;
            const Order* ends = &falls_[one.falls];
            Pieces gaps;
            if constexpr (Rank == 3) gaps = pieces_of<Rank>(boundary<Rank> & ~cells_on<Rank>(one.earlier));
            for (int i = one.gaps - 1; i > 0; --i) {
                const auto [earlier, later] = std::minmax({forest.root(ends[i]), forest.root(ends[0])});
                if (earlier == later) {
                    if constexpr (Rank == 3) columns.push_back({order, gaps.piece[i]});
                    continue;
                }
                forest.plant(earlier, later);
                pair(one.voxel, critical_[earlier].voxel);
            }
        }
        std::reverse(columns.begin(), columns.end());
        return columns;
    }

    Field<Rank, T> field_;
    int threads_;
    Trees trees_;
    std::vector<Critical> by_index_, critical_;  // the same, as they enter
    std::vector<Order> place_;                   // among these, of those
    std::vector<Order> climbs_, falls_;          // where paths lead
};

}  // namespace topofix
