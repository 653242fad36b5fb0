// Dimension 1 in 3-D: which voxel begins each loop, and which one ends it.
//
// A critical voxel brings critical edges, one for each piece of L but the first; those that join no components
// begin a loop. It brings critical faces, one for each piece of the rest of its boundary but the first; those that
// make no void end a loop. Which ends which is found by reducing the matrix of boundaries over Z/2. A column is
// a set of edges, the latest first. An edge that is not critical is paired with a face by a discrete gradient, and
// is replaced by the other edges of that face, until the latest one begins a loop: the pivot.
//
//      +---e---+ . . .       A voxel brings edge e and the face below it together. In a set of edges, e may be
//      |       |       .     replaced by the other three sides of that face. The gradient follows from which
//      +-------+ . . .       neighbours are earlier, so it is computed where it is needed and never stored.
//
// Two columns with one pivot: the earlier face keeps it and the later goes on with the sum. Threads may come to
// a pivot in any order; a later face that got there first is thrown out and goes on, so that the pairs are always
// the same.
//
// References: V. Robins, P. J. Wood, A. P. Sheppard, "Theory and algorithms for constructing discrete Morse
// complexes from grayscale digital images", IEEE TPAMI 33, 2011. U. Bauer, M. Kerber, J. Reininghaus, "Clear and
// compress: computing persistent homology in chunks", 2014. D. Morozov, A. Nigmetov, "Towards lockfree persistent
// homology", SPAA 2020.

#pragma once

#include <deque>

#include "critical.hpp"

namespace topofix {

constexpr std::array<Set, codes<3>> edges_of_face = [] {
    std::array<Set, codes<3>> all{};
    for (const int face : members<faces<3>>) all[face] = grown<3>(only(face)) & edges<3>;
    return all;
}();

constexpr std::array<Set, codes<3>> faces_of_edge = [] {
    std::array<Set, codes<3>> all{};
    for (const int edge : members<edges<3>>) all[edge] = grown<3>(only(edge)) & faces<3>;
    return all;
}();

// The discrete gradient on the cells that a voxel brings, as far as edges take part: in every piece each face
// but one is paired with the edge across which one comes to it from that one. Pairs stand from there
// outwards.
struct Gradient {
    struct Pair {
        std::uint8_t edge, face;
    };
    std::array<Pair, 5> pairs;
    int size = 0;
    Set paired = 0;  // edges

    static Gradient of(Set cells) {
        Gradient gradient;
        Set inside = cells & edges<3>;
        for (Set unreached = cells & faces<3>; unreached != 0;) {
            int face = lowest(unreached), done = gradient.size;
            unreached &= unreached - 1;
            while (true) {
                for (Set around = edges_of_face[face] & inside; around != 0; around &= around - 1) {
                    const int edge = lowest(around);
                    const Set other = faces_of_edge[edge] & unreached;
                    if (other == 0) continue;
                    unreached &= ~other;
                    gradient.paired |= only(edge);
                    gradient.pairs[gradient.size++] = {std::uint8_t(edge), std::uint8_t(lowest(other))};
                }
                if (done == gradient.size) break;
                face = gradient.pairs[done++].face;
            }
        }
        return gradient;
    }
};

// A critical edge, which joins two pieces of L.
struct Bridge {
    int edge, from, to;
};

// The critical edges of a voxel with several pieces, one fewer than these, which join them all: what remains
// of its edges when faces have taken theirs (Gradient), and every vertex the one by which one comes to it
// from a piece.
struct Bridges {
    std::array<Bridge, 7> bridge;

    static Bridges of(Set earlier) {
        const Set there = cells_on<3>(earlier);
        const Pieces pieces = pieces_of<3>(there);
        std::array<std::int8_t, codes<3>> piece_of;
        piece_of.fill(-1);
        for (int i = 0; i < pieces.count; ++i)
            for (Set left = pieces.piece[i] & vertices<3>; left != 0; left &= left - 1)
                piece_of[lowest(left)] = std::int8_t(i);
        const auto ends = [&](int edge) {
            const Set two = grown<3>(only(edge)) & vertices<3>;
            return std::pair<std::int8_t&, std::int8_t&>(piece_of[lowest(two)],
                                                         piece_of[lowest(two & (two - 1))]);
        };
        const Set cells = boundary<3> & ~there;
        Set open = cells & edges<3> & ~Gradient::of(cells).paired;
        for (bool any = true; any;) {
            any = false;
            for (Set left = open; left != 0; left &= left - 1) {
                auto [a, b] = ends(lowest(left));
                if ((a < 0) == (b < 0)) continue;
                (a < 0 ? a : b) = a < 0 ? b : a;
                open &= ~only(lowest(left));
                any = true;
            }
        }
        Bridges found;
        for (int i = 0; open != 0; open &= open - 1) {
            const auto [a, b] = ends(lowest(open));
            found.bridge[i++] = {lowest(open), a, b};
        }
        return found;
    }
};

// A face that ends a loop: it stands for a piece of the rest of the boundary of a critical voxel.
struct Column {
    Order order;  // of the voxel
    Set piece;
};

// Around an edge of a voxel lie three others: which neighbours they are, and what they call the edge.
struct Around {
    struct Other {
        std::uint8_t neighbour, edge;
    };
    std::array<Other, 3> others;
};

constexpr std::array<Around, codes<3>> around_edge = [] {
    std::array<Around, codes<3>> all{};
    for (const int edge : members<edges<3>>)
        for (int moves = 1, i = 0; moves < 8; ++moves) {
            int neighbour = 0, name = 0;
            bool across = true;
            for (int axis = 0; axis < 3; ++axis) {
                const int side = digit<3>(edge, axis), moved = moves >> axis & 1;
                across = across && !(moved && side == 1);
                neighbour += (moved ? side : 1) * power<3>(axis);
                name += (moved ? 2 - side : side) * power<3>(axis);
            }
            if (across) all[edge].others[i++] = {std::uint8_t(neighbour), std::uint8_t(name)};
        }
    return all;
}();

// The edges that begin a loop, numbered as they enter; the number is their place among the pivots.
template <class T>
class Starts {
  public:
    using When = typename Field<3, T>::When;

    Starts(const Field<3, T>& field, const std::vector<Critical>& critical, std::vector<Set> of_each)
        : edges_(std::move(of_each)), first_(edges_.size()) {
        for (std::size_t order = 0; order < edges_.size(); ++order) {
            first_[order] = static_cast<std::uint32_t>(when_.size());
            when_.insert(when_.end(), static_cast<std::size_t>(count(edges_[order])),
                         field.when(critical[order].voxel));
        }
    }

    std::size_t size() const { return when_.size(); }
    When when(std::uint32_t number) const { return when_[number]; }
    Set among(Order order, Set edges) const { return edges & edges_[order]; }
    std::uint32_t number(Order order, int edge) const {
        return first_[order] + static_cast<std::uint32_t>(count(edges_[order] & (only(edge) - 1)));
    }

  private:
    std::vector<Set> edges_;  // of each critical voxel
    std::vector<std::uint32_t> first_;
    std::vector<When> when_;
};

template <class T>
class Loops {
  public:
    using When = typename Field<3, T>::When;

    // In `trees`, critical voxels at which loops may begin hang on themselves.
    Loops(const Field<3, T>& field, const std::vector<Critical>& critical, const Trees& trees,
          const Starts<T>& starts, const std::vector<Column>& columns)
        : field_(field),
          trees_(trees),
          starts_(starts),
          columns_(columns),
          critical_(critical),
          paths_are_short_(critical.size() > field.size() / dense),
          pivots_(starts.size()) {}

    // Calls pair(birth, death) with the voxels of every loop.
    template <class Pair>
    void reduce(int threads, const Pair& pair) {
        std::deque<Reduction> reductions;
        for (int i = 0; i < threads; ++i) reductions.emplace_back(*this);
        std::atomic<std::size_t> next{0};
        in_parallel(threads, [&](int worker) {
            constexpr std::size_t chunk = 64;
            for (std::size_t begin; (begin = next.fetch_add(chunk)) < columns_.size();)
                for (std::size_t i = begin; i < std::min(begin + chunk, columns_.size()); ++i)
                    reductions[static_cast<std::size_t>(worker)].reduce(static_cast<std::uint32_t>(i));
        });
        for (std::uint32_t start = 0; start < starts_.size(); ++start)
            pair(starts_.when(start).voxel(), critical_[columns_[pivots_[start].load()->column].order].voxel);
    }

  private:
    static constexpr std::size_t dense = 4;  // one voxel in so many is critical

    // Edges that one voxel brought.
    struct Entry {
        When when;
        Set edges;
        bool operator<(const Entry& other) const { return when < other.when; }
    };

    // A reduced column without its pivot; never changed once other threads can see it.
    struct Reduced {
        std::uint32_t column;
        std::vector<std::uint32_t> starts;
        std::vector<Entry> rest;  // not yet followed to where it leads
    };

    // What one thread does. Its column is the sum of two heaps.
    class Reduction {
      public:
        explicit Reduction(Loops& loops) : loops_(loops), gradients_(std::size_t(1) << gradient_bits) {}

        // Reduces a column until it has a pivot; then the one that it threw out, if any, and so on.
        void reduce(std::uint32_t column) {
            const Column& face = loops_.columns_[column];
            Set around = 0;
            for (Set left = face.piece & faces<3>; left != 0; left &= left - 1)
                around ^= edges_of_face[lowest(left)];
            push(loops_.critical_[face.order].voxel, around);
            while (true) {
                std::atomic<const Reduced*>& pivot = loops_.pivots_[next_pivot()];
                const Reduced* other = pivot.load(std::memory_order_acquire);
                const auto theirs = [&] { return other != nullptr && other->column < column; };
                if (theirs()) {
                    add(*other);
                    continue;
                }
                const Reduced* mine = settle(column);
                bool taken = false;
                while (!taken && !theirs())
                    taken = pivot.compare_exchange_weak(other, mine, std::memory_order_acq_rel);
                if (taken && other == nullptr) return;
                if (taken) column = other->column;
                add(*mine);
                add(*other);
            }
        }

      private:
        static constexpr int gradient_bits = 11;

        // Takes the latest start out, once nothing that is later is left to be followed.
        std::uint32_t next_pivot() {
            while (true) {
                while (!rest_.empty() &&
                       (starts_.empty() || !(rest_.front().when < loops_.starts_.when(starts_.front()))))
                    follow_latest();
                if (starts_.empty()) throw std::logic_error("a loop ended that had never begun");
                if (const auto [start, odd] = take_start(); odd) return start;
            }
        }

        // Replaces the latest edges in `rest_` by earlier ones and by the starts that are among them.
        void follow_latest() {
            const Entry latest = take_entry();
            if (latest.edges == 0) return;
            const Voxel voxel = latest.when.voxel();
            const Set cells = boundary<3> & ~cells_on<3>(loops_.field_.earlier_neighbours(voxel));
            const Gradient& gradient = gradient_of(cells);
            Set edges = latest.edges;
            for (int i = 0; i < gradient.size; ++i)
                if (edges >> gradient.pairs[i].edge & 1) edges ^= edges_of_face[gradient.pairs[i].face];
            push(voxel, edges & ~cells);
            // Of its edges, each vertex that it brings has taken one, too; usually that was all of them.
            if (count(cells & topofix::edges<3>) == gradient.size + count(cells & vertices<3>)) return;
            // Voxels that begin loops stand here with their order; what others have is no order, or another's.
            const Order order = loops_.trees_[voxel].load(std::memory_order_relaxed) - 1;
            if (order >= loops_.critical_.size() || loops_.critical_[order].voxel != voxel) return;
            for (Set left = loops_.starts_.among(order, edges); left != 0; left &= left - 1)
                push(starts_, loops_.starts_.number(order, lowest(left)));
        }

        const Gradient& gradient_of(Set cells) {
            const Set key = cells & (faces<3> | edges<3>);
            auto& [known, gradient] = gradients_[key * 2654435761u >> (32 - gradient_bits)];
            if (known != key) {
                known = key;
                gradient = Gradient::of(key);
            }
            return gradient;
        }

        // Adds edges of a voxel that earlier ones brought, each under the name that the earliest calls it by.
        void push(Voxel voxel, Set edges) {
            for (; edges != 0; edges &= edges - 1) {
                const auto& others = around_edge[lowest(edges)].others;
                const auto entry = [&](int i) {
                    return Entry{loops_.field_.when(loops_.field_.neighbour(voxel, others[i].neighbour)),
                                 only(others[i].edge)};
                };
                push(rest_, std::min({entry(0), entry(1), entry(2)}));
            }
        }

        template <class Item>
        static void push(std::vector<Item>& heap, const Item& item) {
            heap.push_back(item);
            std::push_heap(heap.begin(), heap.end());
        }

        template <class Item>
        static Item take(std::vector<Item>& heap) {
            std::pop_heap(heap.begin(), heap.end());
            const Item latest = heap.back();
            heap.pop_back();
            return latest;
        }

        // All edges of the latest voxel.
        Entry take_entry() {
            Entry latest = take(rest_);
            while (!rest_.empty() && rest_.front().when == latest.when) latest.edges ^= take(rest_).edges;
            return latest;
        }

        // The latest start, and whether there is an odd number of it.
        std::pair<std::uint32_t, bool> take_start() {
            const std::uint32_t start = take(starts_);
            bool odd = true;
            for (; !starts_.empty() && starts_.front() == start; odd = !odd) take(starts_);
            return {start, odd};
        }

        void add(const Reduced& column) {
            for (const std::uint32_t start : column.starts) push(starts_, start);
            for (const Entry& entry : column.rest) push(rest_, entry);
        }

        // Empties both heaps into a column that can be added to others.
        const Reduced* settle(std::uint32_t number) {
            while (loops_.paths_are_short_ && !rest_.empty()) follow_latest();
            Reduced& reduced = settled_.emplace_back();
            reduced.column = number;
            while (!starts_.empty())
                if (const auto [start, odd] = take_start(); odd) reduced.starts.push_back(start);
            while (!rest_.empty())
                if (const Entry entry = take_entry(); entry.edges != 0) reduced.rest.push_back(entry);
            return &reduced;
        }

        Loops& loops_;
        std::vector<std::uint32_t> starts_;
        std::vector<Entry> rest_;                          // edges yet to be followed
        std::vector<std::pair<Set, Gradient>> gradients_;  // of the cells met last
        std::deque<Reduced> settled_;
    };

    const Field<3, T>& field_;
    const Trees& trees_;
    const Starts<T>& starts_;
    const std::vector<Column>& columns_;
    const std::vector<Critical>& critical_;
    const bool paths_are_short_;
    std::vector<std::atomic<const Reduced*>> pivots_;
};

}  // namespace topofix
