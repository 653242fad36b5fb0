// The kernel without Python, for the sanitizers: `make sanitize` and `make sanitize-threads`.
//
// On small images, every bar equals that of the textbook: write down the boundary matrix over Z/2 and reduce
// it (Edelsbrunner and Harer, "Computational Topology", VII.1). On larger ones, results must not depend on
// the number of threads, and counts of a mask must be those of its barcode.

#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "../../topofix/topology/native/mask.hpp"
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
    refusals();
    std::printf(failures == 0 ? "all native tests passed\n" : "%d native tests failed\n", failures);
    return failures != 0;
}
