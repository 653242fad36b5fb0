// The kernel without Python, for the sanitizers: `make sanitize` and `make sanitize-threads`.
//
// On small images, every bar equals that of the textbook: write down the boundary matrix over Z/2 and reduce
// it (Edelsbrunner and Harer, "Computational Topology", VII.1). On larger ones, results must not depend on
// the number of threads, and counts of a mask must be those of its barcode. A label map that is changed keeps
// the Betti numbers that its masks have when they are counted anew.

#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <tuple>

#include "../../topofix/topology/native/mask.hpp"
#include "../../topofix/topology/native/partition.hpp"
#include "../../topofix/topology/native/paths.hpp"
#include "../../topofix/topology/native/persistence.hpp"

using namespace topofix;

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what);
    ++failures;
}

using Triple = std::tuple<int, std::int64_t, std::int64_t>;  // dimension, birth, death

template <int Rank, class T>
struct Sample {
    std::array<std::int64_t, 3> shape{1, 1, 1};
    std::vector<T> values;

    std::int64_t size() const { return shape[0] * shape[1] * (Rank == 3 ? shape[2] : 1); }
    Image<T> image() const {
        Image<T> image{values.data(), shape, {}};
        std::int64_t stride = sizeof(T);
        for (int axis = Rank - 1; axis >= 0; --axis) {
            image.strides[axis] = stride;
            stride *= shape[axis];
        }
        return image;
    }
    std::vector<Triple> bars(Orientation orientation, int threads) const {
        std::vector<Triple> triples;
        for (const Bar& bar : Persistence<Rank, T>(image(), orientation, threads).bars(0))
            triples.emplace_back(bar.dimension, bar.birth, bar.death);
        std::sort(triples.begin(), triples.end());
        return triples;
    }
};

template <int Rank, class T>
std::vector<Triple> textbook(const Sample<Rank, T>& sample, Orientation orientation) {
    using Cell = std::array<std::int64_t, Rank>;  // of the doubled grid, odd coordinates being intervals
    const bool full = orientation == Orientation::primal;
    const auto earlier = [&](std::int64_t a, std::int64_t b) {
        const T x = sample.values[std::size_t(a)], y = sample.values[std::size_t(b)];
        return x != y ? x > y : a < b;
    };
    struct Entered {
        std::int64_t voxel;
        int dimension;
        Cell cell;
    };
    std::vector<Entered> order;
    Cell cell{};
    const auto add = [&] {
        std::int64_t chosen = -1;
        for (int corner = 0; corner < 1 << Rank; ++corner) {
            std::int64_t voxel = 0;
            bool inside = true;
            for (int axis = 0; axis < Rank; ++axis) {
                const int shift = corner >> axis & 1;
                const std::int64_t odd = cell[axis] % 2;
                const std::int64_t place =
                    full ? (cell[axis] + 1) / 2 - 1 + shift * (1 - odd) : cell[axis] / 2 + shift * odd;
                inside = inside && place >= 0 && place < sample.shape[axis];
                voxel = voxel * sample.shape[axis] + place;
            }
            if (inside && (chosen < 0 || earlier(voxel, chosen) == full)) chosen = voxel;
        }
        int dimension = 0;
        for (const std::int64_t coordinate : cell) dimension += coordinate % 2 == 1;
        order.push_back({chosen, dimension, cell});
    };
    const auto side = [&](int axis) { return 2 * sample.shape[axis] + (full ? 1 : -1); };
    for (cell[0] = 0; cell[0] < side(0); ++cell[0])
        for (cell[1] = 0; cell[1] < side(1); ++cell[1]) {
            if constexpr (Rank == 3)
                for (cell[2] = 0; cell[2] < side(2); ++cell[2]) add();
            else
                add();
        }
    std::stable_sort(order.begin(), order.end(), [&](const Entered& a, const Entered& b) {
        return a.voxel != b.voxel ? earlier(a.voxel, b.voxel) : a.dimension < b.dimension;
    });
    std::map<Cell, int> position;
    for (std::size_t i = 0; i < order.size(); ++i) position[order[i].cell] = int(i);

    std::map<int, std::set<int>> reduced;  // by pivot
    std::map<int, int> ender;
    std::vector<bool> ends(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        std::set<int> column;
        for (int axis = 0; axis < Rank; ++axis)
            if (order[i].cell[axis] % 2 == 1)
                for (const int step : {-1, 1}) {
                    Cell face = order[i].cell;
                    face[axis] += step;
                    column.insert(position.at(face));
                }
        while (!column.empty() && reduced.count(*column.rbegin()) != 0)
            for (const int row : std::set<int>(reduced[*column.rbegin()]))
                if (!column.insert(row).second) column.erase(row);
        if (column.empty()) continue;
        ender[*column.rbegin()] = int(i);
        ends[i] = true;
        reduced[*column.rbegin()] = column;
    }
    std::vector<Triple> bars;
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (ends[i]) continue;
        const auto found = ender.find(int(i));
        const std::int64_t death =
            found == ender.end() ? Bar::never : order[std::size_t(found->second)].voxel;
        const auto value = [&](std::int64_t voxel) { return sample.values[std::size_t(voxel)]; };
        if (value(order[i].voxel) != (death == Bar::never ? T(0) : value(death)))
            bars.emplace_back(order[i].dimension, order[i].voxel, death);
    }
    std::sort(bars.begin(), bars.end());
    return bars;
}

template <int Rank, class T>
Sample<Rank, T> random_sample(std::mt19937& random, int largest, int levels) {
    Sample<Rank, T> sample;
    for (int axis = 0; axis < Rank; ++axis)
        sample.shape[axis] = 1 + std::int64_t(random() % unsigned(largest));
    for (std::int64_t i = 0; i < sample.size(); ++i) {
        T value = T(random() % unsigned(levels)) / T(levels) - T(0.5);
        if (value == 0 && random() % 2) value = -value;                  // either zero
        if (random() % 16 == 0) value *= std::numeric_limits<T>::min();  // denormals among them
        sample.values.push_back(value);
    }
    return sample;
}

template <int Rank, class T>
void small_images(std::mt19937& random, int count) {
    for (int i = 0; i < count; ++i) {
        const auto sample = random_sample<Rank, T>(random, Rank == 2 ? 6 : 4, i % 2 ? 4 : 1 << 20);
        for (const Orientation orientation : {Orientation::primal, Orientation::dual})
            expect(sample.bars(orientation, 1 + i % 3) == textbook(sample, orientation),
                   "bars equal the textbook's");
    }
}

template <int Rank>
void thread_counts(std::mt19937& random, std::int64_t side, int levels) {
    Sample<Rank, float> sample;
    for (int axis = 0; axis < Rank; ++axis) sample.shape[axis] = side + axis;
    for (std::int64_t i = 0; i < sample.size(); ++i)
        sample.values.push_back(float(random() % unsigned(levels)));
    for (const Orientation orientation : {Orientation::primal, Orientation::dual}) {
        const auto expected = sample.bars(orientation, 1);
        for (const int threads : {2, 3, 8})
            expect(sample.bars(orientation, threads) == expected, "threads change nothing");
    }
}

template <int Rank>
void masks(std::mt19937& random, std::int64_t side) {
    Sample<Rank, std::uint8_t> mask;
    Sample<Rank, float> field;
    for (int axis = 0; axis < Rank; ++axis) mask.shape[axis] = field.shape[axis] = side + axis;
    for (std::int64_t i = 0; i < mask.size(); ++i) {
        mask.values.push_back(random() % 2 ? 255 : 0);
        field.values.push_back(mask.values.back() ? 1.0f : 0.0f);
    }
    for (const Orientation orientation : {Orientation::primal, Orientation::dual}) {
        std::array<std::int64_t, Rank> expected{};
        for (const auto& [dimension, birth, death] : field.bars(orientation, 1)) {
            (void)death;
            expected[std::size_t(dimension)] += field.values[std::size_t(birth)] == 1.0f;
        }
        for (const int threads : {1, 2}) {
            const auto found = betti<Rank>(mask.image(), orientation, threads);
            expect(found == expected, "counts are those of the barcode");
        }
        std::size_t simple = 0;
        simple_points<Rank>(mask.image(), orientation, [&](std::int64_t) { ++simple; });
        expect(simple > 0 && simple < std::size_t(mask.size()), "some voxels are simple");
    }
}

// Flipping a voxel changes no count exactly if it is simple by the table-free definition: all of 2^8, some of
// 2^26.
template <int Rank>
void simple_tests(std::mt19937& random) {
    for (int block = 0; block < (Rank == 2 ? 4 : 20000); ++block) {
        std::array<Set, 64> neighbours{};
        std::array<Word, codes<Rank>> words{};
        for (int i = 0; i < 64; ++i) {
            Set spread = 0;
            const Set bits = Rank == 2 ? Set(64 * block + i)
                                       : (random() & random()) | (block % 2 ? random() & random() : 0);
            for (int code = 0, bit = 0; code < codes<Rank>; ++code)
                if (code != centre<Rank>) spread |= (bits >> bit++ & 1) << code;
            neighbours[std::size_t(i)] = spread;
            for (int code = 0; code < codes<Rank>; ++code) words[code] |= Word(spread >> code & 1) << i;
        }
        const Word found = simple<Rank>(words);
        for (int i = 0; i < 64; ++i)
            expect((found >> i & 1) == is_simple<Rank>(neighbours[std::size_t(i)]),
                   "64 at once as one by one");
    }
}

// Random labels and costs, wishes for label 1, for labels 2 and 3 together and for the foreground.
template <int Rank>
struct Map {
    static constexpr int label_count = 4;
    std::array<std::int64_t, Rank> shape{};
    std::vector<Label> labels;
    std::vector<float> costs;
    std::vector<std::uint8_t> frozen;
    std::vector<Wish> wishes;
    bool face;

    Map(std::mt19937& random, int largest, bool face_) : face(face_) {
        std::size_t size = 1;
        for (std::int64_t& side : shape)
            size *= std::size_t(side = 1 + std::int64_t(random() % unsigned(largest)));
        costs.resize(size * label_count);
        for (std::size_t i = 0; i < size; ++i) {
            labels.push_back(Label(random() % label_count));
            frozen.push_back(random() % 8 == 0);
            for (unsigned k = 0; k < label_count; ++k)
                costs[k * size + i] = k == labels[i] ? 0.0f : float(1 + random() % 20) / 4;
        }
        const std::vector<std::vector<int>> regions{{1}, {2, 3}, {1, 2, 3}};
        for (const auto& region : regions) {
            Wish wish;
            for (const int label : region) wish.holds[std::size_t(label)] = true;
            for (std::size_t k = 0; k < Rank; ++k) {
                wish.low[k] = std::int64_t(random() % 2);
                wish.high[k] = random() % 4 == 0 ? Wish::any : wish.low[k] + std::int64_t(random() % 2);
            }
            wishes.push_back(wish);
        }
        for (Wish& wish : wishes) std::copy_n(counted(wish, labels).begin(), Rank, wish.betti.begin());
    }

    std::array<std::int64_t, Rank> counted(const Wish& wish, const std::vector<Label>& now) const {
        Sample<Rank, std::uint8_t> mask;
        std::copy(shape.begin(), shape.end(), mask.shape.begin());
        for (const Label label : now) mask.values.push_back(wish.holds[label]);
        return betti<Rank>(mask.image(), face ? Orientation::dual : Orientation::primal, 1);
    }

    Partition<Rank> partition(bool with_frozen) const {
        return {shape,  labels.data(), costs.data(), label_count, with_frozen ? frozen.data() : nullptr,
                wishes, face};
    }
};

template <int Rank>
std::vector<Label> labels_of(const Partition<Rank>& partition) {
    std::vector<Label> labels(partition.size());
    partition.copy_labels(labels.data());
    return labels;
}

template <int Rank>
bool counts_are_right(const Map<Rank>& map, const Partition<Rank>& partition) {
    const auto labels = labels_of(partition);
    for (const Wish& wish : partition.wishes()) {
        const auto expected = map.counted(wish, labels);
        if (!std::equal(expected.begin(), expected.end(), wish.betti.begin())) return false;
    }
    return true;
}

template <int Rank>
void changes(std::mt19937& random, int count) {
    for (int i = 0; i < count; ++i) {
        const Map<Rank> map(random, Rank == 2 ? 9 : 6, i % 2);
        const bool with_frozen = i % 3 == 0;
        Partition<Rank> partition = map.partition(with_frozen);
        auto expected = map.labels;
        for (int step = 0; step < 12; ++step) {
            std::vector<std::int64_t> voxels;
            std::vector<Label> labels;
            for (unsigned k = 0; k < 1 + random() % 3; ++k) {
                const std::size_t voxel = random() % expected.size();
                voxels.push_back(std::int64_t(voxel));
                labels.push_back(Label(random() % Map<Rank>::label_count));
                if (!with_frozen || !map.frozen[voxel]) expected[voxel] = labels.back();
            }
            partition.change(voxels.data(), labels.data(), voxels.size());
            expect(labels_of(partition) == expected, "voxels get their labels unless they are frozen");
            expect(counts_are_right(map, partition), "Betti numbers are right after a change");
        }
        const auto before = partition.wishes();
        partition.settle_to(map.labels.data());
        const auto settled = labels_of(partition);
        for (std::size_t r = 0; r < before.size(); ++r)
            expect(before[r].betti == partition.wishes()[r].betti, "settling changes no Betti number");
        expect(counts_are_right(map, partition), "Betti numbers are right after settling");
        for (std::size_t v = 0; v < settled.size(); ++v)
            expect(settled[v] == expected[v] || settled[v] == map.labels[v], "settling takes back or leaves");
        for (std::size_t v = 0; v < settled.size(); ++v) {
            const auto voxel = std::int64_t(v);
            partition.change(&voxel, &map.labels[v], 1);
        }
        expect(labels_of(partition) == map.labels && partition.error() == map.partition(false).error(),
               "all changes can be taken back");
        std::vector<std::int64_t> all(expected.size());
        for (std::size_t v = 0; v < all.size(); ++v) all[v] = std::int64_t(v);
        partition.freeze(all.data(), all.size());
        partition.change(all.data(), expected.data(), all.size());
        expect(labels_of(partition) == map.labels, "what is frozen later keeps its label, too");
    }
}

template <int Rank>
std::int64_t error_of(const Partition<Rank>& partition, std::size_t region) {
    std::int64_t sum = 0;
    for (int k = 0; k < Rank; ++k) sum += partition.wishes()[region].error(k);
    return sum;
}

template <int Rank>
void sweeps(std::mt19937& random, int count) {
    using Bounds = typename Partition<Rank>::Bounds;
    int better = 0;
    for (int i = 0; i < count; ++i) {
        const Map<Rank> map(random, Rank == 2 ? 14 : 7, i % 2);
        const Partition<Rank> partition = map.partition(i % 3 == 0);
        const int region = int(random() % 3);
        const bool grow = random() % 2, near = random() % 2;
        Bounds bounds{random() % 2 ? 2.0f : 1e9f, random() % 2 == 1, near ? 2 : -1, {}, 1e9};
        if (near)
            for (int k = 0; k < 3; ++k) bounds.centres.push_back(std::int64_t(random() % map.labels.size()));
        const auto pieces = partition.sweep(region, grow, bounds);
        expect(labels_of(partition) == map.labels, "a sweep leaves the partition as it is");
        Partition<Rank> changed = partition;
        std::set<std::int64_t> seen;
        for (const Piece& piece : pieces) {
            for (std::size_t k = 0; k < piece.voxels.size(); ++k) {
                const auto voxel = std::size_t(piece.voxels[k]);
                const Label label = piece.labels[k];
                expect(seen.insert(piece.voxels[k]).second, "pieces do not overlap");
                expect(label != map.labels[voxel] && !(i % 3 == 0 && map.frozen[voxel]),
                       "a piece is a change");
                expect(map.wishes[std::size_t(region)].holds[label] == grow, "a sweep keeps its direction");
                expect(map.costs[label * map.labels.size() + voxel] <= bounds.limit,
                       "a sweep keeps its limit");
            }
            changed.change(piece.voxels.data(), piece.labels.data(), piece.voxels.size());
        }
        expect(counts_are_right(map, changed), "Betti numbers are right after a sweep");
        for (std::size_t r = 0; r < 3; ++r)
            expect(error_of(changed, r) <= error_of(partition, r), "a sweep makes nothing worse");
        better += changed.error() < partition.error();
        bounds.seconds = -1;
        expect(partition.sweep(region, grow, bounds).size() <= pieces.size() + 1024, "a sweep can be late");
    }
    expect(better > count / 4, "sweeps bring the whole nearer");
}

// Sweeps read one partition from several threads.
void sweeps_at_once(std::mt19937& random) {
    const Map<3> map(random, 12, false);
    const Partition<3> partition = map.partition(true);
    const auto sweep = [&](int k) { return partition.sweep(k % 3, k % 2, {1e9f, k > 2, -1, {}, 1e9}); };
    std::array<std::vector<Piece>, 6> found;
    std::vector<std::thread> threads;
    for (int k = 0; k < 6; ++k) threads.emplace_back([&, k] { found[std::size_t(k)] = sweep(k); });
    for (std::thread& thread : threads) thread.join();
    for (int k = 0; k < 6; ++k) {
        const auto alone = sweep(k);
        bool same = alone.size() == found[std::size_t(k)].size();
        for (std::size_t i = 0; same && i < alone.size(); ++i)
            same = alone[i].voxels == found[std::size_t(k)][i].voxels;
        expect(same, "sweeps at once find what each finds alone");
    }
}

// Around a wall through the voxel, as far as its neighbours reach, by relaxing until nothing changes (Bellman and
// Ford).
template <int Rank>
void closed_paths(std::mt19937& random, int count) {
    for (int i = 0; i < count; ++i) {
        const bool corners = i % 2;
        std::array<std::int64_t, Rank> shape{};
        std::size_t size = 1;
        for (std::int64_t& side : shape) size *= std::size_t(side = 5 + std::int64_t(random() % 4));
        std::array<std::int64_t, Rank> stride{};
        std::int64_t step = 1;
        for (int axis = Rank - 1; axis >= 0; --axis) {
            stride[std::size_t(axis)] = step;
            step *= shape[std::size_t(axis)];
        }
        std::vector<std::uint8_t> allowed(size);
        std::vector<float> costs(size);
        std::int64_t closing = 0;
        for (int axis = 0; axis < Rank; ++axis)
            closing += shape[std::size_t(axis)] / 2 * stride[std::size_t(axis)];
        const std::int64_t across = stride[0];
        for (std::int64_t v = 0; v < std::int64_t(size); ++v) {
            bool inside = true, flat = true, close = true;
            for (int axis = 0; axis < Rank; ++axis) {
                const auto a = std::size_t(axis);
                const std::int64_t place = v / stride[a] % shape[a], middle = shape[a] / 2;
                inside = inside && place > 0 && place < shape[a] - 1;
                if (axis == 0)
                    flat = place == middle;
                else
                    close = close && std::abs(place - middle) <= 1;
            }
            costs[std::size_t(v)] = float(random() % 16);
            allowed[std::size_t(v)] = inside && !(flat && close);
        }
        const auto offset = [&](int code) {
            std::int64_t sum = 0;
            for (int axis = 0; axis < Rank; ++axis)
                sum += (digit<Rank>(code, axis) - 1) * stride[std::size_t(axis)];
            return sum;
        };
        const Set reach = corners ? boundary<Rank> : faces<Rank>;
        const double infinity = std::numeric_limits<double>::infinity();
        std::vector<double> distance(size, infinity);
        const auto touches = [&](std::int64_t voxel, std::int64_t side) {
            for (Set left = reach; left != 0; left &= left - 1)
                if (const int code = lowest(left); offset(code) + closing == voxel)
                    return digit<Rank>(code, 0) - 1 == side;
            return false;
        };
        for (std::int64_t v = 0; v < std::int64_t(size); ++v)
            if (allowed[std::size_t(v)] && touches(v, -1))
                distance[std::size_t(v)] = double(costs[std::size_t(v)]);
        for (bool any = true; any;) {
            any = false;
            for (std::int64_t v = 0; v < std::int64_t(size); ++v) {
                if (distance[std::size_t(v)] == infinity) continue;
                for (Set left = reach; left != 0; left &= left - 1) {
                    const auto next = std::size_t(v + offset(lowest(left)));
                    const double sum = distance[std::size_t(v)] + double(costs[next]);
                    if (!allowed[next] || sum >= distance[next]) continue;
                    distance[next] = sum;
                    any = true;
                }
            }
        }
        double least = infinity;
        for (std::int64_t v = 0; v < std::int64_t(size); ++v)
            if (touches(v, 1)) least = std::min(least, distance[std::size_t(v)]);
        const auto path = closed_path<Rank>(shape, allowed.data(), costs.data(), closing, corners);
        double sum = path.empty() ? infinity : 0;
        for (const std::int64_t v : path) {
            sum += double(costs[std::size_t(v)]);
            expect(allowed[std::size_t(v)], "a path stays where it is allowed");
        }
        expect(sum == least, "no path is cheaper");
        std::fill(allowed.begin(), allowed.end(), 0);
        allowed[std::size_t(closing + across)] = 1;
        expect(closed_path<Rank>(shape, allowed.data(), costs.data(), closing, corners).empty(),
               "what is in one piece is not closed");
    }
}

void refusals() {
    const std::vector<float> values{0.0f, std::nanf(""), 1.0f, std::numeric_limits<float>::infinity()};
    bool thrown = false;
    try {
        Persistence<2, float>({values.data(), {2, 2, 1}, {8, 4, 0}}, Orientation::primal, 1);
    } catch (const std::domain_error&) {
        thrown = true;
    }
    expect(thrown, "what is not finite is refused");
}

}  // namespace

int main() {
    std::mt19937 random(0);
    small_images<2, float>(random, 400);
    small_images<2, double>(random, 200);
    small_images<3, float>(random, 200);
    small_images<3, double>(random, 100);
    thread_counts<2>(random, 70, 1 << 30);
    thread_counts<2>(random, 70, 5);
    thread_counts<3>(random, 20, 1 << 30);
    thread_counts<3>(random, 20, 5);
    masks<2>(random, 60);
    masks<3>(random, 17);
    simple_tests<2>(random);
    simple_tests<3>(random);
    changes<2>(random, 60);
    changes<3>(random, 60);
    sweeps<2>(random, 150);
    sweeps<3>(random, 150);
    sweeps_at_once(random);
    closed_paths<2>(random, 60);
    closed_paths<3>(random, 30);
    refusals();
    std::printf(failures == 0 ? "all native tests passed\n" : "%d native tests failed\n", failures);
    return failures != 0;
}
