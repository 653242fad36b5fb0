// A label map whose Betti numbers are known at any time, and the cheap ways to change them.
//
// One voxel changes its label; what that does to a region follows from the cells L that the voxel has in common
// with it (cube.hpp) and from which pieces of L, or of the rest, are connected elsewhere:
//
//      # # # . .        v has two pieces of L, above and below. If they are connected elsewhere, v closes a
//      . . v . .        loop, else it joins two components; and so for the gaps, left and right, which are one
//      # # # # .        background elsewhere, or a void and the rest.
//
// Whether they are is looked up by searches that start at all of them and end when the last but one is exhausted
// or all have met, so they cost what the smaller side costs.
//
// A sweep grows a region (or its complement) homotopically, by voxels in the order of what they cost, and lets
// the topology change only where that brings it nearer to what is wished. Then it takes back what it can, most
// expensive first. What is left of a bridge is a thin path, of a closed tunnel a thin sheet:
//
//      ##....##       ##++++##       ##....##
//      ##....##  ->   ##++++##  ->   ##++++##
//      ##....##       ##++++##       ##....##
//
// `face` connectivity is `full` connectivity of the complement, as in persistence.hpp: a region is then what lies
// outside of the set P that is followed here, and the frame around the image belongs to P.
//
// References: G. Bertrand, G. Malandain, "A new characterization of three-dimensional simple points", Pattern
// Recognition Letters 15, 1994. M. Couprie, G. Bertrand, "New characterizations of simple points in 2D, 3D, and
// 4D discrete spaces", IEEE TPAMI 31, 2009 (homotopic growing and thinning).

#pragma once

#include <chrono>
#include <memory>
#include <queue>

#include "critical.hpp"

namespace topofix {

using Label = std::uint8_t;

// What is asked of a region: which labels it holds, and how many features of each dimension.
struct Wish {
    static constexpr std::int64_t any = -1;
    std::array<bool, 256> holds{};
    std::array<std::int64_t, 3> low{}, high{};  // by dimension
    std::array<std::int64_t, 3> betti{};        // what there is

    std::int64_t error(int k, std::int64_t change = 0) const {
        const std::int64_t count = betti[k] + change;
        if (count < low[k]) return low[k] - count;
        return high[k] != any && count > high[k] ? count - high[k] : 0;
    }
};

// Voxels and the labels they get.
struct Piece {
    std::vector<std::int64_t> voxels;
    std::vector<Label> labels;
};

template <int Rank>
class Partition {
  public:
    static constexpr Label frame = 254, wall = 255;  // around the image: background, and what nothing enters
    static constexpr std::size_t most_wishes = 64;

    // The labels (C order) and what each label would cost in each voxel; a frozen voxel keeps its label.
    Partition(std::array<std::int64_t, Rank> shape, const Label* labels, const float* costs, int label_count,
              const std::uint8_t* frozen, std::vector<Wish> wishes, bool face)
        : shape_(shape), label_count_(label_count), face_(face), wishes_(std::move(wishes)) {
        std::size_t size = 1;
        for (int axis = Rank - 1; axis >= 0; --axis) {
            stride_[axis] = static_cast<std::ptrdiff_t>(size);
            size *= static_cast<std::size_t>(shape[axis] + 2 * margin);
        }
        for (int code = 0; code < codes<Rank>; ++code) {
            offset_[code] = 0;
            for (int axis = 0; axis < Rank; ++axis)
                offset_[code] += (digit<Rank>(code, axis) - 1) * stride_[axis];
        }
        if (size > std::numeric_limits<Voxel>::max()) throw std::length_error("expected fewer voxels");
        labels_.assign(size, wall);
        costs_ = std::make_shared<std::vector<float>>(size * static_cast<std::size_t>(label_count));
        frozen_.assign(size, 1);
        marks_.resize(size);
        for (std::size_t r = 0; r < wishes_.size(); ++r)
            for (int label = 0; label < wall; ++label)
                if ((label != frame && wishes_[r].holds[label]) != face) sets_[label] |= Word(1) << r;
        lay_out(labels, costs, frozen);
    }

    const std::vector<Wish>& wishes() const { return wishes_; }

    std::int64_t error() const {
        std::int64_t sum = 0;
        for (const Wish& wish : wishes_) sum += error(wish);
        return sum;
    }

    std::size_t size() const {
        std::size_t voxels = 1;
        for (const std::int64_t side : shape_) voxels *= static_cast<std::size_t>(side);
        return voxels;
    }

    void copy_labels(Label* into) const {
        for_each_voxel([&](Voxel voxel, std::size_t index) { into[index] = labels_[voxel]; });
    }

    // Gives voxels other labels, one after the other.
    void change(const std::int64_t* voxels, const Label* labels, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const Voxel voxel = padded(voxels[i]);
            if (!frozen_[voxel]) set(voxel, labels[i], consequences(voxel, labels[i]));
        }
    }

    // How a sweep goes about it. Voxels that cost more than the limit are left alone, and those further than the
    // radius from all centres. `spreading`: costs add up along the way, so that short ways come first; else the
    // way whose dearest voxel is cheapest.
    struct Bounds {
        float limit;
        bool spreading;
        std::int64_t radius;  // along each axis; below 0 there are no centres
        std::vector<std::int64_t> centres;
        double seconds;
    };

    // The pieces of change by which a region, grown or shrunk, comes nearer to what is wished of it.
    std::vector<Piece> sweep(int region, bool grow, const Bounds& bounds) const {
        Partition copy(*this);
        const std::vector<Voxel> touched = Sweep(copy, *this, region, grow, bounds).run();
        const auto base = [&](Voxel voxel) { return labels_[voxel]; };
        copy.settle(touched, base);
        return copy.pieces_of_change(touched, base);
    }

    void freeze(const std::int64_t* voxels, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) frozen_[padded(voxels[i])] = 1;
    }

    // Takes changes back by simple points, dearest first: each voxel to its label in `base`.
    void settle_to(const Label* base) {
        std::vector<Voxel> changed;
        std::vector<Label> original(labels_.size(), frame);
        for_each_voxel([&](Voxel voxel, std::size_t index) {
            original[voxel] = base[index];
            if (labels_[voxel] != base[index]) changed.push_back(voxel);
        });
        settle(changed, [&](Voxel voxel) { return original[voxel]; });
    }

  private:
    static constexpr int margin = 2;
    enum class Allowed { anything, nothing_worse, nothing };  // of changes of topology
    using Change = std::array<std::int64_t, Rank>;

    // Who saw a voxel in which search: its number, and in the lowest three bits from where. A copy begins anew.
    struct Marks {
        std::size_t size = 0;
        Zeros<std::uint32_t> of{1};
        std::uint32_t searches = 0;

        Marks() = default;
        Marks(const Marks& other) { resize(other.size); }
        void resize(std::size_t voxels) {
            size = voxels;
            of = Zeros<std::uint32_t>(voxels);
            searches = 0;
        }
        std::uint32_t next_search() {
            if (searches == (std::uint32_t(1) << 28)) resize(size);
            return ++searches << 3;
        }
    };

    struct Effect {
        int region;
        Change change;
    };

    struct Consequences {
        bool worse = false;  // some error grows
        int count = 0;       // of regions whose Betti numbers change
        std::array<Effect, most_wishes> of;
    };

    static std::int64_t error(const Wish& wish) {
        std::int64_t sum = 0;
        for (int k = 0; k < Rank; ++k) sum += wish.error(k);
        return sum;
    }

    template <class Do>
    void for_each_voxel(const Do& act) const {
        std::size_t index = 0;
        const std::int64_t planes = Rank == 3 ? shape_[0] : 1;
        for (std::int64_t z = 0; z < planes; ++z)
            for (std::int64_t y = 0; y < shape_[Rank - 2]; ++y) {
                std::ptrdiff_t at = (y + margin) * stride_[Rank - 2] + margin;
                if (Rank == 3) at += (z + margin) * stride_[0];
                for (std::int64_t x = 0; x < shape_[Rank - 1]; ++x) act(static_cast<Voxel>(at + x), index++);
            }
    }

    void lay_out(const Label* labels, const float* costs, const std::uint8_t* frozen) {
        const std::size_t voxels = this->size();
        for_each_voxel([&](Voxel voxel, std::size_t index) {
            labels_[voxel] = labels[index];
            frozen_[voxel] = frozen != nullptr && frozen[index] != 0;
            for (int label = 0; label < label_count_; ++label)
                cost_of(voxel, label) = costs[static_cast<std::size_t>(label) * voxels + index];
            for (int code = 0; code < codes<Rank>; ++code)
                if (Label& near = labels_[neighbour(voxel, code)]; near == wall) near = frame;
        });
    }

    float& cost_of(Voxel voxel, int label) const {
        return (*costs_)[std::size_t(voxel) * static_cast<std::size_t>(label_count_) +
                         static_cast<std::size_t>(label)];
    }

    Voxel padded(std::int64_t index) const {
        std::ptrdiff_t at = 0;
        for (int axis = Rank - 1; axis >= 0; --axis) {
            at += (index % shape_[axis] + margin) * stride_[axis];
            index /= shape_[axis];
        }
        return static_cast<Voxel>(at);
    }

    std::int64_t index_in_image(Voxel voxel) const {
        std::int64_t index = 0;
        auto rest = static_cast<std::ptrdiff_t>(voxel);
        for (int axis = 0; axis < Rank; ++axis) {
            index = index * shape_[axis] + rest / stride_[axis] - margin;
            rest %= stride_[axis];
        }
        return index;
    }

    Voxel neighbour(Voxel voxel, int code) const {
        return static_cast<Voxel>(static_cast<std::ptrdiff_t>(voxel) + offset_[code]);
    }

    bool in_set(int region, Label label) const { return sets_[label] >> region & 1; }

    Set near(int region, Voxel voxel) const {
        Set set = 0;
        for (int code = 0; code < codes<Rank>; ++code)
            set |= Set(sets_[labels_[neighbour(voxel, code)]] >> region & 1) << code;
        return set & boundary<Rank>;
    }

    // What becomes of the set P of a region when a voxel enters it that so many components of P touch, and so many
    // of its complement through its gaps.
    static Change entering(Set there, int gap_count, int components, int complements) {
        Change change{};
        change[0] = 1 - components;
        change[Rank - 1] = gap_count == 0 ? -1 : complements - 1;
        if constexpr (Rank == 3) change[1] = change[0] + change[2] - (1 - euler_characteristic<Rank>(there));
        return change;
    }

    Change turned(Change change, bool enters) const {
        if (!enters)
            for (std::int64_t& number : change) number = -number;
        if (face_) std::reverse(change.begin(), change.end());
        return change;
    }

    bool acceptable(const Wish& wish, const Change& change) const {
        for (int k = 0; k < Rank; ++k)
            if (wish.error(k, change[k]) > wish.error(k)) return false;
        return true;
    }

    // What a change of label would do; where it does what is not allowed, only that it is worse. What can be
    // said without a search is said first, of all regions. Inside a sweep the components of the side that grows
    // are known by their trees.
    template <class Count>
    Consequences consequences(Voxel voxel, Label label, Allowed allowed, const Count& count) {
        Consequences result;
        std::array<int, most_wishes> open;  // regions in which something may change
        int open_count = 0;
        for (Word left = sets_[label] ^ sets_[labels_[voxel]]; left != 0; left &= left - 1) {
            const int region = lowest(left);
            const Set there = cells_on<Rank>(near(region, voxel)), rest = boundary<Rank> & ~there;
            const auto& pieces = pieces_of<Rank>(there);
            const auto& gaps = pieces_of<Rank>(rest);
            if (pieces.count == 1 && gaps.count == 1 && (Rank == 2 || euler_characteristic<Rank>(there) == 1))
                continue;
            if (allowed != Allowed::anything) {
                const Wish& wish = wishes_[static_cast<std::size_t>(region)];
                const bool enters = in_set(region, label);
                bool possible = false;
                if (allowed == Allowed::nothing_worse)
                    for (int c = std::min(1, pieces.count); c <= pieces.count && !possible; ++c)
                        for (int g = std::min(1, gaps.count); g <= gaps.count && !possible; ++g)
                            possible = acceptable(wish, turned(entering(there, gaps.count, c, g), enters));
                if (!possible) {
                    result.worse = true;
                    return result;
                }
            }
            open[static_cast<std::size_t>(open_count++)] = region;
        }
        for (int i = 0; i < open_count; ++i) {
            const int region = open[static_cast<std::size_t>(i)];
            const Wish& wish = wishes_[static_cast<std::size_t>(region)];
            const Set set = near(region, voxel), there = cells_on<Rank>(set), rest = boundary<Rank> & ~there;
            const auto& pieces = pieces_of<Rank>(there);
            const auto& gaps = pieces_of<Rank>(rest);
            const int components = pieces.count < 2 ? pieces.count : count(region, voxel, pieces, set, true),
                      complements =
                          gaps.count < 2 ? gaps.count : count(region, voxel, gaps, faces<Rank>, false);
            const Change change =
                turned(entering(there, gaps.count, components, complements), in_set(region, label));
            bool any = false;
            for (int k = 0; k < Rank; ++k) {
                any |= change[k] != 0;
                result.worse |= wish.error(k, change[k]) > wish.error(k);
            }
            if (any) result.of[static_cast<std::size_t>(result.count++)] = {region, change};
            if (result.worse && allowed != Allowed::anything) break;
        }
        return result;
    }

    Consequences consequences(Voxel voxel, Label label, Allowed allowed = Allowed::anything) {
        return consequences(voxel, label, allowed,
                            [&](int region, Voxel at, const Pieces& pieces, Set towards, bool inside) {
                                return apart(region, at, pieces, towards, inside);
                            });
    }

    void set(Voxel voxel, Label label, const Consequences& result) {
        labels_[voxel] = label;
        for (int i = 0; i < result.count; ++i) {
            const auto& [region, change] = result.of[static_cast<std::size_t>(i)];
            for (int k = 0; k < Rank; ++k) wishes_[static_cast<std::size_t>(region)].betti[k] += change[k];
        }
    }

    // How many components of P (or of its complement) there are among those that touch a voxel, which itself
    // belongs to neither.
    int apart(int region, Voxel voxel, const Pieces& pieces, Set towards, bool inside) {
        const std::uint32_t epoch = marks_.next_search();
        std::array<int, 8> parent{};
        const auto root = [&](int one) {
            while (parent[static_cast<std::size_t>(one)] != one) one = parent[static_cast<std::size_t>(one)];
            return one;
        };
        int classes = pieces.count;
        std::array<std::size_t, 8> head{};
        for (int i = 0; i < pieces.count; ++i) {
            const auto k = static_cast<std::size_t>(i);
            parent[k] = i;
            const Voxel seed = neighbour(voxel, lowest(pieces.piece[k] & towards));
            front_[k].assign(1, seed);
            marks_.of[seed] = epoch | static_cast<std::uint32_t>(i);
        }
        while (classes > 1) {
            Set active = 0;
            for (int i = 0; i < pieces.count; ++i) {
                const auto k = static_cast<std::size_t>(i);
                if (head[k] == front_[k].size()) continue;
                active |= only(root(i));
                const Voxel at = front_[k][head[k]++];
                for (Set left = inside ? boundary<Rank> : faces<Rank>; left != 0; left &= left - 1) {
                    const Voxel next = neighbour(at, lowest(left));
                    if (next == voxel || labels_[next] == wall || in_set(region, labels_[next]) != inside)
                        continue;
                    if ((marks_.of[next] & ~std::uint32_t(7)) != epoch) {
                        marks_.of[next] = epoch | static_cast<std::uint32_t>(i);
                        front_[k].push_back(next);
                    } else if (const int a = root(i), b = root(static_cast<int>(marks_.of[next] & 7));
                               a != b) {
                        parent[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
                        if (--classes == 1) return 1;
                    }
                }
            }
            if ((active & (active - 1)) == 0) break;  // all but one are exhausted
        }
        return classes;
    }

    struct Candidate {
        float key;
        Voxel voxel;
        bool operator<(const Candidate& other) const {  // the queue's top is the largest
            return key != other.key ? key > other.key : voxel > other.voxel;
        }
    };

    // Takes back changes of label, dearest first, wherever no Betti number changes by it.
    template <class Base>
    void settle(const std::vector<Voxel>& changed, const Base& base) {
        std::priority_queue<Candidate> queue;
        Zeros<std::uint8_t> queued(labels_.size());
        const auto push = [&](Voxel voxel) {
            if (queued[voxel] || frozen_[voxel] || labels_[voxel] == base(voxel)) return;
            queued[voxel] = 1;
            queue.push({cost_of(voxel, base(voxel)) - cost_of(voxel, labels_[voxel]), voxel});
        };
        for (const Voxel voxel : changed) push(voxel);
        while (!queue.empty()) {
            const Voxel voxel = queue.top().voxel;
            queue.pop();
            queued[voxel] = 0;
            const Consequences result = consequences(voxel, base(voxel), Allowed::nothing);
            if (result.worse) continue;
            set(voxel, base(voxel), result);
            for (Set left = boundary<Rank>; left != 0; left &= left - 1)
                if (const Voxel next = neighbour(voxel, lowest(left)); labels_[next] < frame) push(next);
        }
    }

    template <class Base>
    std::vector<Piece> pieces_of_change(const std::vector<Voxel>& touched, const Base& base) {
        std::vector<Piece> pieces;
        Zeros<std::uint8_t> seen(labels_.size());
        std::vector<Voxel> stack;
        for (const Voxel first : touched) {
            if (seen[first] || labels_[first] == base(first)) continue;
            Piece piece;
            seen[first] = 1;
            stack.assign(1, first);
            while (!stack.empty()) {
                const Voxel voxel = stack.back();
                stack.pop_back();
                piece.voxels.push_back(index_in_image(voxel));
                piece.labels.push_back(labels_[voxel]);
                for (Set left = boundary<Rank>; left != 0; left &= left - 1) {
                    const Voxel next = neighbour(voxel, lowest(left));
                    if (labels_[next] >= frame || seen[next] || labels_[next] == base(next)) continue;
                    seen[next] = 1;
                    stack.push_back(next);
                }
            }
            pieces.push_back(std::move(piece));
        }
        return pieces;
    }

    class Sweep;
    friend class Sweep;

    std::array<std::int64_t, Rank> shape_;
    std::array<std::ptrdiff_t, Rank> stride_{};
    std::array<std::ptrdiff_t, codes<Rank>> offset_{};
    int label_count_;
    bool face_;
    std::vector<Wish> wishes_;
    std::array<Word, 256> sets_{};  // the regions' sets P that each label belongs to, a bit each
    std::vector<Label> labels_;
    std::shared_ptr<std::vector<float>> costs_;  // by voxel and label; copies share them
    std::vector<std::uint8_t> frozen_;
    Marks marks_;
    std::array<std::vector<Voxel>, 8> front_;
};

// Homotopic growth of one side, P or its complement, that changes topology only for the better.
template <int Rank>
class Partition<Rank>::Sweep {
  public:
    Sweep(Partition& partition, const Partition& before, int region, bool grow, const Bounds& bounds)
        : all_(partition),
          region_(region),
          inside_(grow != partition.face_),
          bounds_(bounds),
          before_(before.labels_),
          tree_(partition.labels_.size()),
          open_(partition.labels_.size(), bounds.radius < 0),
          given_up_(partition.labels_.size()),
          forest_(none + 1) {
        for (int label = 0; label < all_.label_count_; ++label)
            if (wish().holds[static_cast<std::size_t>(label)] == grow)
                choices_.push_back(static_cast<Label>(label));
    }

    // Grows until nothing is wrong with the region or nothing is left to enter; returns what entered.
    std::vector<Voxel> run() {
        for (const std::int64_t centre : bounds_.centres) open(centre);
        plant();
        std::vector<Voxel> entered;
        for (std::uint32_t popped = 0; !queue_.empty() && Partition::error(wish()) > 0; ++popped) {
            if (popped % 1024 == 1023 && late()) break;
            const auto [key, voxel] = queue_.top();
            queue_.pop();
            open_[voxel] = 1;
            if (!enter(voxel)) continue;
            entered.push_back(voxel);
            take_in(voxel);
            for (Set left = boundary<Rank>; left != 0; left &= left - 1)
                push(all_.neighbour(voxel, lowest(left)), bounds_.spreading ? key : 0);
        }
        return entered;
    }

  private:
    static constexpr Order none = 0;

    const Wish& wish() const { return all_.wishes_[static_cast<std::size_t>(region_)]; }
    bool on_side(Voxel voxel) const {
        return before_[voxel] != wall && all_.in_set(region_, before_[voxel]) == inside_;
    }
    bool late() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count() >
               bounds_.seconds;
    }

    void open(std::int64_t centre) {
        std::array<std::int64_t, 3> low{}, high{};  // of the box around the centre, slowest axis last
        for (int axis = Rank - 1, k = 0; axis >= 0; --axis, ++k) {
            const std::int64_t place = centre % all_.shape_[axis];
            centre /= all_.shape_[axis];
            low[k] = std::max<std::int64_t>(0, place - bounds_.radius);
            high[k] = std::min(all_.shape_[axis] - 1, place + bounds_.radius);
        }
        for (std::int64_t z = low[2]; z <= high[2]; ++z)
            for (std::int64_t y = low[1]; y <= high[1]; ++y) {
                std::ptrdiff_t row = (y + margin) * all_.stride_[Rank - 2] + margin;
                if (Rank == 3) row += (z + margin) * all_.stride_[0];
                std::fill(open_.begin() + row + low[0], open_.begin() + row + high[0] + 1, 1);
            }
    }

    // Finds the components of the side, by runs along the rows, and what could enter first.
    void plant() {
        for (Voxel voxel = 0; voxel < before_.size(); ++voxel) {
            if (!on_side(voxel)) continue;
            if (tree_[voxel - 1] != none) {
                tree_[voxel] = tree_[voxel - 1];
            } else {
                tree_[voxel] = static_cast<Order>(forest_.size());
                forest_.grow(forest_.size() + 1);
            }
            for (Set left = reach() & (only(centre<Rank>) - 1); left != 0; left &= left - 1) {
                const Voxel other = all_.neighbour(voxel, lowest(left));
                if (tree_[other] != none && tree_[other] != tree_[voxel]) unite(tree_[voxel], tree_[other]);
            }
        }
        for (Voxel voxel = 0; voxel < before_.size(); ++voxel) {
            if (!open_[voxel] || all_.frozen_[voxel] || tree_[voxel] != none) continue;
            for (Set left = boundary<Rank>; left != 0; left &= left - 1)
                if (tree_[all_.neighbour(voxel, lowest(left))] != none) {
                    push(voxel, 0);
                    break;
                }
        }
    }

    Set reach() const { return inside_ ? boundary<Rank> : faces<Rank>; }

    void unite(Order a, Order b) {
        const auto [low, high] = std::minmax({forest_.root(a), forest_.root(b)});
        if (low != high) forest_.plant(high, low);
    }

    void push(Voxel voxel, float key) {
        if (!open_[voxel] || tree_[voxel] != none || all_.frozen_[voxel]) return;
        float cost = std::numeric_limits<float>::infinity();
        for (const Label label : choices_) cost = std::min(cost, all_.cost_of(voxel, label));
        if (cost > bounds_.limit) return;
        open_[voxel] = 0;
        queue_.push({key + cost, voxel});
    }

    // Gives a voxel the cheapest label that makes nothing worse; whether there is one.
    bool enter(Voxel voxel) {
        std::sort(choices_.begin(), choices_.end(), [&](Label a, Label b) {
            const float first = all_.cost_of(voxel, a), second = all_.cost_of(voxel, b);
            return first != second ? first < second : a < b;
        });
        for (const Label label : choices_) {
            if (all_.cost_of(voxel, label) > bounds_.limit) return false;
            bool searched = false;
            const Consequences result =
                all_.consequences(voxel, label, given_up_[voxel] ? Allowed::nothing : Allowed::nothing_worse,
                                  [&](int region, Voxel at, const Pieces& pieces, Set towards, bool inside) {
                                      if (region == region_ && inside == inside_)
                                          return trees(at, pieces, towards);
                                      searched = true;
                                      return all_.apart(region, at, pieces, towards, inside);
                                  });
            if (result.worse) {
                given_up_[voxel] |= searched;
                continue;
            }
            all_.set(voxel, label, result);
            return true;
        }
        return false;
    }

    int trees(Voxel voxel, const Pieces& pieces, Set towards) {
        std::array<Order, 8> roots{};
        for (std::size_t k = 0; k < static_cast<std::size_t>(pieces.count); ++k)
            roots[k] = forest_.root(tree_[all_.neighbour(voxel, lowest(pieces.piece[k] & towards))]);
        std::sort(roots.begin(), roots.begin() + pieces.count);
        return static_cast<int>(std::unique(roots.begin(), roots.begin() + pieces.count) - roots.begin());
    }

    void take_in(Voxel voxel) {
        for (Set left = reach(); left != 0; left &= left - 1) {
            const Order other = tree_[all_.neighbour(voxel, lowest(left))];
            if (other == none) continue;
            if (tree_[voxel] == none) tree_[voxel] = other;
            if (other != tree_[voxel]) unite(other, tree_[voxel]);
        }
        if (tree_[voxel] == none) {
            tree_[voxel] = static_cast<Order>(forest_.size());
            forest_.grow(forest_.size() + 1);
        }
    }

    Partition& all_;
    int region_;
    bool inside_;
    const Bounds& bounds_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    const std::vector<Label>& before_;
    std::vector<Label> choices_;
    Zeros<Order> tree_;               // of the voxels of the side, in the forest
    std::vector<std::uint8_t> open_;  // to be looked at when a neighbour enters: not while it is in the queue
    Zeros<std::uint8_t> given_up_;    // what lies apart stays apart, and searches are dear
    Forest forest_;
    std::priority_queue<Candidate> queue_;
};

}  // namespace topofix
